"""The prepared folder: what is written is read, damage is noticed, and the first of two writers wins."""

from __future__ import annotations

import json

import numpy as np
import pytest

from train.data.memmap import FORMAT_VERSION, FolderWriter, Meta, TokenFile, dtype_name, read_meta
from train.errors import UserError


def write(final, train=([5, 6], [7]), validation=([8, 9, 10],), vocab=300):
    meta = Meta(FORMAT_VERSION, dtype_name(vocab), vocab, 1, "ab", "test", "cd")
    with FolderWriter(final) as writer:
        writer.append("train", train, meta)
        writer.append("validation", validation, meta)
        return writer.commit(meta)


def test_documents_end_with_eos_and_are_counted(tmp_path):
    folder = write(tmp_path / "p")
    train, validation = TokenFile(folder, "train"), TokenFile(folder, "validation")
    assert train.tokens.tolist() == [5, 6, 1, 7, 1] and len(train) == 5
    assert validation.tokens.tolist() == [8, 9, 10, 1]
    assert (train.meta.train.documents, train.meta.train.tokens, train.meta.validation.tokens) == (2, 5, 4)
    assert train.tokens.dtype == np.uint16


@pytest.mark.parametrize(("vocab", "dtype"), [(65535, np.uint16), (65536, np.uint32)])
def test_ids_of_every_vocabulary_fit(tmp_path, vocab, dtype):
    tokens = TokenFile(write(tmp_path / "p", train=[[vocab - 1]], vocab=vocab), "train").tokens
    assert tokens.dtype == dtype and tokens.tolist() == [vocab - 1, 1]


def test_nothing_appears_before_the_commit_or_stays_after_a_failure(tmp_path):
    with pytest.raises(RuntimeError), FolderWriter(tmp_path / "p") as writer:
        writer.append("train", [[5]], Meta(FORMAT_VERSION, "uint16", 300, 1, "", "", ""))
        assert not (tmp_path / "p").exists()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_the_first_complete_folder_stays(tmp_path):
    first, second = FolderWriter(tmp_path / "p"), FolderWriter(tmp_path / "p")
    metas = [Meta(FORMAT_VERSION, "uint16", 300, 1, "", name, "") for name in ("first", "second")]
    with first, second:
        for writer, meta in zip((first, second), metas, strict=True):
            writer.append("train", [[5]], meta)
        assert first.commit(metas[0]) == second.commit(metas[1]) == tmp_path / "p"
    assert read_meta(tmp_path / "p").source == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["p"]


@pytest.mark.parametrize("change", [lambda content: content[:-3], lambda content: content + b"\0\0", lambda content: b""])
def test_a_file_of_the_wrong_length_is_noticed(tmp_path, change):
    path = write(tmp_path / "p") / "train.bin"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UserError, match=r"train.bin has \d+ bytes but meta.json says 10: it is truncated .*delete .* prepare again"):
        TokenFile(tmp_path / "p", "train")


def test_missing_parts_are_named(tmp_path):
    folder = write(tmp_path / "p")
    (folder / "validation.bin").unlink()
    with pytest.raises(UserError, match=r"validation.bin is missing"):
        TokenFile(folder, "validation")
    (folder / "meta.json").unlink()
    with pytest.raises(UserError, match=r"not a prepared corpus: it has no meta.json"):
        TokenFile(folder, "train")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format_version": 2}'])
def test_damaged_meta(tmp_path, content):
    folder = write(tmp_path / "p")
    (folder / "meta.json").write_text(content)
    with pytest.raises(UserError, match=r"meta.json is damaged .*prepare again"):
        read_meta(folder)


def test_another_format_version(tmp_path):
    folder = write(tmp_path / "p")
    values = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**values, "format_version": 99}))
    with pytest.raises(UserError, match="is of format 99, this program reads 2"):
        read_meta(folder)


def test_a_split_shorter_than_a_row(tmp_path):
    folder = write(tmp_path / "p")
    assert TokenFile(folder, "validation").check_rows(4) == 1
    with pytest.raises(UserError, match=r"validation split has 4 tokens in 1 documents, fewer than one row of data.sequence_length 5"):
        TokenFile(folder, "validation").check_rows(5)
    assert len(TokenFile(write(tmp_path / "q", train=[]), "train")) == 0


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"data.directory: .*file cannot be written"), FolderWriter(tmp_path / "file" / "p"):
        pass
