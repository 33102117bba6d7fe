"""Preparation from end to end: splits, reuse, quarantine, and the messages of everything that
cannot be prepared.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

from train.config import DataConfig
from train.data.loading.memmap import TokenFile, read_meta
from train.data.preparing import prepare as module
from train.data.preparing.encode import is_held_out
from train.data.preparing.prepare import prepare
from train.data.preparing.state import State
from train.data.preparing.work_folder import WorkFolder
from train.data.tokenizers.load import load_tokenizer
from train.errors import UserError
from train.tasks.prepare_command import main

ROOT = Path(__file__).resolve().parents[5]
QUIET: list[str] = []  # takes progress lines nobody reads


def texts(folder: Path, split) -> list[str]:
    """The documents of a split, decoded."""
    file = TokenFile(folder, split)
    tokenizer = load_tokenizer(folder / "tokenizer.model")
    found = []
    ids = []
    for token in file.tokens.tolist():
        if token == tokenizer.eos_id:
            found.append(tokenizer.decode(ids))
            ids = []
        else:
            ids.append(token)
    assert ids == []
    return found


def test_every_document_is_in_exactly_one_split_unchanged(write_rows, settings, documents):
    folder = prepare(settings(write_rows("a.json.gz", documents)), 320, QUIET.append)
    train = texts(folder, "train")
    validation = texts(folder, "validation")
    assert sorted(train + validation) == sorted(documents)
    assert [text for text in documents if text in set(train)] == train
    assert 0.03 < len(validation) / len(documents) < 0.25
    meta = read_meta(folder)
    assert (meta.train.documents, meta.validation.documents, meta.rows, meta.rows_set_aside) == (
        len(train),
        len(validation),
        200,
        0,
    )
    assert meta.train.bytes == sum(len(text.encode()) for text in train)
    assert meta.train.tokens == len(TokenFile(folder, "train"))
    assert folder.name == f"files-{meta.fingerprint}" and len(meta.fingerprint) == 12


def test_the_order_of_the_sources_changes_nothing(write_rows, settings, sentences, monkeypatch):
    """Earlier versions read validation after training, and their work folders are gone on with."""
    training = write_rows("a.jsonl", sentences(60))
    config = settings(training, validation_files=(str(write_rows("v.jsonl", sentences(9, 1))),))
    now = prepare(config, 320, QUIET.append)
    monkeypatch.setattr(WorkFolder, "_earlier_state", lambda _: State(validation_first=False))
    before = prepare(
        dataclasses.replace(config, directory=f"{config.directory}-before"), 320, QUIET.append
    )
    assert read_meta(now) == read_meta(before)
    assert texts(now, "validation") == texts(before, "validation") == sentences(9, 1)


def test_held_out_share_and_copies(sentences):
    documents = sentences(20_000)
    held = [is_held_out(False, text, 0.02) for text in documents]
    assert 0.015 < sum(held) / len(held) < 0.025
    assert all(
        is_held_out(False, text, 0.02) == out
        for text, out in zip(documents[:200], held, strict=False)
    )
    assert is_held_out(True, "anything", 1e-9)


def test_reused_until_something_that_matters_changes(write_rows, settings, documents):
    path = write_rows("a.jsonl", documents)
    config = settings(path)
    lines = []
    folder = prepare(config, 320, lines.append)
    inode = (folder / "train.bin").stat().st_ino
    assert any(line.startswith("Prepared") for line in lines)
    lines.clear()
    for same in (
        config,
        dataclasses.replace(config, sequence_length=8),
        dataclasses.replace(config, max_bad_fraction=0.5),
    ):
        assert prepare(same, 999, lines.append) == folder
    assert (folder / "train.bin").stat().st_ino == inode
    assert lines == [f"Using the prepared corpus in {folder}"] * 3
    changed = [{"validation_fraction": 0.2}, {"max_documents": 20}, {"tokenizer": ""}]
    folders = {
        prepare(dataclasses.replace(config, **change), 320, lines.append) for change in changed
    }  # type: ignore[arg-type]
    assert len(folders | {folder}) == 4
    path.write_text(path.read_text().replace("cat", "cow"))  # as long as before
    assert prepare(config, 320, lines.append) not in folders | {folder}


def test_validation_files_leave_all_files_for_training(write_rows, settings, documents, sentences):
    other = sentences(20, seed=1)
    config = settings(
        write_rows("a.jsonl", documents), validation_files=(str(write_rows("v.json.gz", other)),)
    )
    folder = prepare(config, 320, QUIET.append)
    assert texts(folder, "train") == documents
    assert texts(folder, "validation") == other


def test_max_documents_counts_training_documents(write_rows, settings, documents):
    folder = prepare(
        settings(write_rows("a.jsonl", documents), max_documents=30), 320, QUIET.append
    )
    assert read_meta(folder).train.documents == 30


def test_a_trained_tokenizer_is_kept_in_the_folder(write_rows, settings, documents):
    folder = prepare(settings(write_rows("a.jsonl", documents), tokenizer=""), 330, QUIET.append)
    tokenizer = load_tokenizer(folder / "tokenizer.model")
    assert tokenizer.size == read_meta(folder).vocab_size == 330
    assert tokenizer.sha256 == read_meta(folder).tokenizer_sha256
    assert sorted(texts(folder, "train") + texts(folder, "validation")) == sorted(documents)


def test_the_tokenizer_never_sees_validation_text(write_rows, settings, documents, monkeypatch):
    seen: list[str] = []
    real = module.train_tokenizer

    def watched(documents, vocab_size, path):
        seen.extend(documents)
        return real(seen, vocab_size, path)

    monkeypatch.setattr(module, "train_tokenizer", watched)
    folder = prepare(settings(write_rows("a.jsonl", documents), tokenizer=""), 320, QUIET.append)
    assert seen == texts(folder, "train")


def test_bad_rows_are_listed_beside_the_tokens(write_rows, settings, documents):
    path = write_rows("a.jsonl", [*documents[:50], b"{oops", *documents[50:]])
    folder = prepare(settings(path), 320, QUIET.append)
    assert (read_meta(folder).rows, read_meta(folder).rows_set_aside) == (201, 1)
    assert json.loads((folder / "quarantine.jsonl").read_text()) == {
        "file": str(path),
        "line": 51,
        "reason": "not JSON",
    }
    with pytest.raises(UserError, match="1 of 201 rows of the corpus had to be set aside"):
        prepare(settings(path, max_bad_fraction=0.0), 320, QUIET.append)


def test_too_many_bad_rows_leave_only_the_list_of_them(write_rows, settings, documents, tmp_path):
    path = write_rows("a.jsonl", [*documents, *[b"{oops"] * 10])
    with pytest.raises(
        UserError, match=r"10 of 210 rows .*listed in (\S+quarantine.jsonl)"
    ) as caught:
        prepare(settings(path), 320, QUIET.append)
    [kept] = (tmp_path / "prepared").iterdir()
    assert str(kept) in str(caught.value)
    assert len(kept.read_text().splitlines()) == 10


def test_only_broken_input_leaves_only_the_list_of_it(write_rows, settings, documents, tmp_path):
    path = write_rows("a.json.gz", documents)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="truncated or corrupt"):
        prepare(settings(path), 320, QUIET.append)
    [kept] = (tmp_path / "prepared").iterdir()
    [row] = [json.loads(line) for line in kept.read_text().splitlines()]
    assert (
        row["file"] == str(path)
        and row["reason"] == "truncated or corrupt file"
        and 100 < row["rows"] <= 200
    )


def test_vocabulary_is_checked_before_anything_is_read(write_rows, settings, tmp_path):
    with pytest.raises(UserError, match=r"has 320 pieces but model.vocab_size is 300"):
        prepare(settings(write_rows("a.jsonl", [b"{oops"])), 300, QUIET.append)
    assert not (tmp_path / "prepared").exists()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("validation_fraction", "0.0", "data.validation_fraction is 0.0"),
        ("validation_fraction", "0.6", "in (0, 0.5]"),
        ("max_bad_fraction", "2.0", "data.max_bad_fraction is 2.0"),
        ("sequence_length", "1", "data.sequence_length is 1"),
        ("max_documents", "-1", "data.max_documents is -1"),
    ],
)
def test_impossible_settings(key, value, message, capsys):
    """The command refuses what the fields' ranges leave out, before a file is opened."""
    assert main(["--config", "quickstart", f"--data.{key}", value]) == 2
    assert message in capsys.readouterr().err


def test_a_corpus_too_small_for_a_row(write_rows, settings, sentences):
    with pytest.raises(UserError, match=r"The train split has 0 tokens .*fewer than one row"):
        prepare(settings(write_rows("a.jsonl", sentences(1))), 320, QUIET.append)
    with pytest.raises(
        UserError, match=r"The validation split has \d+ tokens .*raise data.validation_fraction"
    ):
        prepare(
            settings(write_rows("b.jsonl", ["short", *sentences(50)]), validation_fraction=1e-9),
            320,
            QUIET.append,
        )


def test_a_damaged_folder_is_not_reused(write_rows, settings, documents):
    config = settings(write_rows("a.jsonl", documents))
    path = prepare(config, 320, QUIET.append) / "train.bin"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"train.bin has 100 bytes .*prepare again"):
        prepare(config, 320, QUIET.append)


def test_c4_takes_a_share_of_its_validation_split(settings, monkeypatch, sentences):
    def load_dataset(name, subset, split, **_):
        return ({"text": text} for text in sentences(500, seed=len(split)))

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    folder = prepare(
        settings(source="c4", max_documents=100, validation_fraction=0.05), 320, QUIET.append
    )
    assert texts(folder, "train") == sentences(500, seed=len("train"))[:100]
    assert texts(folder, "validation") == sentences(500, seed=len("validation"))[:5]


def test_two_processes_at_once_end_with_one_folder(write_rows, settings, documents, tmp_path):
    config = settings(write_rows("a.jsonl", documents))
    code = (
        "from train.config import DataConfig; from train.data.preparing.prepare import prepare; "
        f"print(prepare({config!r}, 320))"
    )
    command = [sys.executable, "-c", code]
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) for _ in range(2)
    ]
    outcomes = [process.communicate(timeout=60) for process in started]
    assert [process.returncode for process in started] == [0, 0], outcomes
    [folder] = (tmp_path / "prepared").iterdir()
    assert {stdout.strip() for stdout, _ in outcomes} == {str(folder)}
    assert read_meta(folder).rows == 200


def test_the_command_line_prints_the_folder_or_one_message(
    write_rows, settings, documents, monkeypatch, capsys
):
    config = settings(write_rows("a.jsonl", documents))
    loaded = types.SimpleNamespace(
        task="language_modelling", data=config, model=types.SimpleNamespace(vocab_size=320)
    )
    monkeypatch.setattr(
        "train.tasks.prepare_command.load_command", lambda argv, prog, about, keys: loaded
    )
    assert main([]) == 0
    assert Path(capsys.readouterr().out.strip()).parent == Path(config.directory)
    loaded.data = DataConfig(source="files", files=("nowhere.jsonl",))
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("error: data.files: nowhere.jsonl does not exist")


def test_real_shard_with_the_t5_model(shared, settings):
    config = settings(
        tokenizer=str(shared / "tokenizers/t5/spiece.model"),
        files=(str(shared / "corpora/c4/*.json.gz"),),
    )
    meta = read_meta(prepare(config, 32000, QUIET.append))
    assert meta.train.documents + meta.validation.documents == meta.rows == 1000
    assert 400_000 < meta.train.tokens + meta.validation.tokens < 700_000


def test_a_run_that_waits_for_another_folder_is_told(write_rows, settings, documents):
    config = settings(write_rows("a.json.gz", documents))
    waited_for = Path(config.directory) / "files-000000000000"
    with pytest.raises(UserError, match=rf"waits for {waited_for}.*start again"):
        prepare(config, 320, QUIET.append, beside=waited_for)
    assert not list(Path(config.directory).glob("files-*"))
