"""The prepared folder: what is written is read, and damage is noticed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from train.data.loading.memmap import TokenFile, read_meta
from train.errors import UserError


@pytest.fixture
def write(write_folder):
    def of(path, train=([5, 6], [7]), validation=([8, 9, 10],), vocab=300):
        return write_folder(path, train, validation, vocab)

    return of


def test_documents_end_with_eos_and_are_counted(tmp_path, write):
    folder = write(tmp_path / "p")
    train = TokenFile(folder, "train")
    validation = TokenFile(folder, "validation")
    assert train.tokens.tolist() == [5, 6, 1, 7, 1] and len(train) == 5
    assert validation.tokens.tolist() == [8, 9, 10, 1]
    assert (train.meta.train.documents, train.meta.train.tokens, train.meta.validation.tokens) == (
        2,
        5,
        4,
    )
    assert train.tokens.dtype == np.uint16
    assert train.ends.tolist() == [3, 5] and validation.ends.tolist() == [4]


@pytest.mark.parametrize(("vocab", "dtype"), [(65535, np.uint16), (65536, np.uint32)])
def test_ids_of_every_vocabulary_fit(tmp_path, write, vocab, dtype):
    tokens = TokenFile(write(tmp_path / "p", train=[[vocab - 1]], vocab=vocab), "train").tokens
    assert tokens.dtype == dtype and tokens.tolist() == [vocab - 1, 1]


@pytest.mark.parametrize(
    "change", [lambda content: content[:-3], lambda content: content + b"\0\0", lambda content: b""]
)
def test_a_file_of_the_wrong_length_is_noticed(tmp_path, write, change):
    path = write(tmp_path / "p") / "train.bin"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(
        UserError,
        match=r"train.bin has \d+ bytes but meta.json says 10: "
        "it is truncated .*delete .* prepare again",
    ):
        TokenFile(tmp_path / "p", "train")


def test_missing_parts_are_named(tmp_path, write):
    folder = write(tmp_path / "p")
    (folder / "validation.bin").unlink()
    with pytest.raises(UserError, match=r"validation.bin is missing"):
        TokenFile(folder, "validation")
    (folder / "meta.json").unlink()
    with pytest.raises(UserError, match=r"not a prepared corpus: it has no meta.json"):
        TokenFile(folder, "train")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format_version": 2}'])
def test_damaged_meta(tmp_path, write, content):
    folder = write(tmp_path / "p")
    (folder / "meta.json").write_text(content)
    with pytest.raises(UserError, match=r"meta.json is damaged .*prepare again"):
        read_meta(folder)


def test_another_format_version(tmp_path, write):
    folder = write(tmp_path / "p")
    values = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**values, "format_version": 99}))
    with pytest.raises(UserError, match="is of format 99, this program reads 2"):
        read_meta(folder)


def test_a_split_shorter_than_a_row(tmp_path, write):
    folder = write(tmp_path / "p")
    assert TokenFile(folder, "validation").check_rows(4) == 1
    with pytest.raises(
        UserError,
        match=r"validation split has 4 tokens in 1 documents, fewer than one row of "
        r"data\.sequence_length 5",
    ):
        TokenFile(folder, "validation").check_rows(5)
    assert len(TokenFile(write(tmp_path / "q", train=[]), "train")) == 0
