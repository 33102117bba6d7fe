"""Preparation by any number of workers, broken off at any point: the same bits; and what is set
aside on the way.
"""

from __future__ import annotations

import dataclasses
import json
import os
import select
import signal
from pathlib import Path

import pytest

from tests.unit.train.data.preparing.preparing import GO, content, finish, start, start_and_hold
from tests.waiting import until
from train.data.loading.memmap import TokenFile, read_meta
from train.data.preparing import ingest, lanes, workers
from train.data.preparing.prepare import prepare
from train.data.preparing.work_folder import STATE_NAME, WorkFolder
from train.data.sources import chunks
from train.data.sources.files import files_source
from train.errors import UserError

PREPARED = "TEST_PREPARED"  # names the folder to workers

QUIET: list[str] = []


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 3000)
    monkeypatch.setattr(ingest, "RECORD_BYTES", 1)
    monkeypatch.setattr(workers, "WORTH_PROCESSES", 2)
    monkeypatch.setattr(lanes, "WORTH_LANES", 1)


@pytest.fixture
def corpus(write_rows, sentences, tmp_path) -> tuple[Path, ...]:
    """Rows in two forms with bad ones among them, texts, a broken file, and one more."""
    broken = write_rows("c.json.gz", sentences(300, seed=3))
    broken.write_bytes(broken.read_bytes()[:-400])
    (tmp_path / "d.txt").write_text("one text\n" * 200)
    (tmp_path / "e.txt").write_bytes(b"\xff\xfe")
    return (
        write_rows(
            "a.json.gz",
            [*sentences(200, seed=1), b"{oops", b'{"text": null}', *sentences(40, seed=2)],
        ),
        write_rows("b.jsonl", ["x" * 9000, *sentences(150, seed=4), b'{"text": " "}']),
        broken,
        tmp_path / "d.txt",
        tmp_path / "e.txt",
        write_rows("f.json.gz", sentences(150, seed=5)),
    )


@pytest.fixture
def config(corpus, settings, tmp_path):
    return settings(*corpus, max_bad_fraction=0.6, max_row_bytes=8000, workers=1)


def in_folder(config, folder):
    return dataclasses.replace(config, directory=str(folder))


@pytest.mark.parametrize(
    "changes",
    [{}, {"max_documents": 333}, {"max_documents": 1}, {"validation_files": ("v.jsonl",)}],
)
def test_any_number_of_workers_gives_the_same_bits(
    config, changes, tmp_path, write_rows, sentences, small_chunks, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write_rows("v.jsonl", [*sentences(90, seed=9), b"{oops"])
    config = dataclasses.replace(config, **changes)
    rows_only = tuple(name for name in config.files if not name.endswith(".txt"))
    kinds = {"rows": rows_only} if changes else {"rows": rows_only, "all": config.files}
    for name, files in kinds.items():
        one = dataclasses.replace(config, files=files)
        two = dataclasses.replace(one, workers=2)
        wholes = [prepare(in_folder(one, tmp_path / name / "one"), 320, QUIET.append)]
        wholes.append(prepare(in_folder(two, tmp_path / name / "threads"), 320, QUIET.append))
        with monkeypatch.context() as patched:
            patched.setattr(workers, "THREADS", 1)  # processes: for rows alone in lanes
            folder = tmp_path / name / "processes"
            wholes.append(prepare(in_folder(two, folder), 320, QUIET.append))
        with monkeypatch.context() as patched:
            patched.setattr(chunks, "CHUNK_BYTES", 2_000_000)
            folder = tmp_path / name / "large chunks"
            wholes.append(prepare(in_folder(one, folder), 320, QUIET.append))
        first, *others = [content(whole) for whole in wholes]
        assert all(other == first for other in others)
    if "max_documents" in changes:
        assert read_meta(wholes[0]).train.documents == changes["max_documents"]


def test_counts_are_exact_and_a_broken_file_is_set_aside_whole(
    config, corpus, small_chunks, sentences
):
    folder = prepare(config, 320, QUIET.append)
    meta = read_meta(folder)
    path = str(corpus[2])
    lines = [json.loads(line) for line in (folder / "quarantine.jsonl").read_text().splitlines()]
    [lost] = [line for line in lines if line["file"] == path]
    assert lost == {
        "file": path,
        "line": 0,
        "reason": "truncated or corrupt file",
        "rows": lost["rows"],
    }
    assert 100 < lost["rows"] <= 300
    other = {
        "not JSON": 1,
        "text is null": 1,
        "text is empty": 1,
        "not UTF-8": 1,
        "longer than data.max_row_bytes = 8000": 1,
    }
    assert meta.set_aside == {**other, "truncated or corrupt file": lost["rows"]}
    assert [(Path(line["file"]).name, line["line"]) for line in lines if line != lost] == [
        ("a.json.gz", 201),
        ("a.json.gz", 202),
        ("b.jsonl", 1),
        ("b.jsonl", 152),
        ("e.txt", 0),
    ]
    good = 240 + 150 + 1 + 150
    assert meta.train.documents + meta.validation.documents == good
    assert meta.rows == good + 5 + lost["rows"] and meta.rows_set_aside == 5 + lost["rows"]
    for split in ("train", "validation"):
        file = TokenFile(folder, split)
        assert (len(file.ends), len(file.tokens)) == (
            meta.split(split).documents,
            meta.split(split).tokens,
        )
        assert (file.tokens[file.ends.astype(int) - 1] == meta.eos_id).all() and (
            file.tokens == meta.eos_id
        ).sum() == len(file.ends)


def test_a_broken_first_file_leaves_a_first_document_to_hold_out(
    write_rows, settings, sentences, small_chunks, tmp_path
):
    broken = write_rows("a.json.gz", sentences(100))
    whole = write_rows("b.jsonl", sentences(200, seed=1))
    broken.write_bytes(broken.read_bytes()[:-100])
    rare = {"validation_fraction": 1e-9, "max_bad_fraction": 0.6, "sequence_length": 8}
    folders = [
        prepare(
            in_folder(settings(broken, whole, **rare, workers=n), tmp_path / str(n)),
            320,
            QUIET.append,
        )
        for n in (1, 2)
    ]
    alone = prepare(in_folder(settings(whole, **rare), tmp_path / "alone"), 320, QUIET.append)
    for folder in folders:
        assert (
            (folder / "validation.bin").read_bytes()
            == (alone / "validation.bin").read_bytes()
            != b""
        )
        assert (folder / "train.bin").read_bytes() == (alone / "train.bin").read_bytes()


def test_a_broken_file_counts_for_the_threshold(config):
    with pytest.raises(
        UserError, match=r"rows of the corpus cannot be used .*c.json.gz: truncated or corrupt file"
    ):
        prepare(dataclasses.replace(config, max_bad_fraction=0.1), 320, QUIET.append)


def test_a_file_without_documents_is_named_and_nothing_stays(
    write_rows, settings, documents, tmp_path
):
    for rows, said in (
        ([b""], "holds no documents. Get"),
        ([b"{oops"] * 2, "holds no documents; 2 rows were set aside .not JSON."),
    ):
        hollow = write_rows("b.jsonl", rows)
        with pytest.raises(UserError, match=rf"b.jsonl {said}"):
            prepare(settings(write_rows("a.jsonl", documents), hollow), 320, QUIET.append)
        assert [path.name for path in (tmp_path / "prepared").iterdir() if path.is_dir()] == []


@pytest.mark.parametrize(
    ("wanted", "jobs", "changes", "kinds"),
    [
        ((1, 5), 1, {}, ""),
        ((9, 13), 2, {}, ""),
        ((40, 44), 1, {}, ""),
        ((30, 34), 2, {"tokenizer": ""}, ""),
        ((1, 2), 2, {}, ".gz"),  # in lanes, where a file is one chunk
    ],
)
def test_killed_and_started_again_it_ends_with_the_same_bits(
    config, tmp_path, wanted, jobs, changes, kinds
):
    """Killed hard once it has written down so many records, again a few records later, then left
    to finish.
    """
    files = tuple(name for name in config.files if name.endswith(kinds))
    config = dataclasses.replace(config, workers=jobs, files=files, **changes)
    whole = content(prepare(in_folder(config, tmp_path / "whole"), 320, QUIET.append))
    directory = Path(config.directory)
    for target in wanted:
        process = start_and_hold(config, tmp_path, target)
        os.kill(process.pid, signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, output
    output = finish(start(config, tmp_path))
    assert f"Going on from {directory}" in output
    there = int(output.partition("work: ")[2].partition(" documents")[0].replace(",", ""))
    assert there > 0 or wanted[0] == 1
    [folder] = directory.iterdir()
    assert content(folder) == whole
    assert finish(start(config, tmp_path)) == f"Using the prepared corpus in {folder}\n"


def test_no_worker_outlives_a_killed_preparation(config, tmp_path):
    process = start_and_hold(dataclasses.replace(config, workers=2), tmp_path, 5)
    children = [
        int(pid)
        for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert len(children) >= 2
    until(lambda: not any(_runs(pid) for pid in children), "the end of every worker")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("kinds", ["", ".gz"], ids=["any files", "in lanes"])
def test_a_killed_worker_is_said_and_nothing_is_lost(
    config, tmp_path, small_chunks, monkeypatch, kinds
):
    monkeypatch.setattr(workers, "_encode", _die_on_the_last_file)
    monkeypatch.setattr(workers, "_encode_in_threads", _die_in_the_last_lane)
    monkeypatch.setattr(workers, "THREADS", 1)
    monkeypatch.setenv(PREPARED, config.directory)
    files = tuple(name for name in config.files if name.endswith(kinds))
    config = dataclasses.replace(config, workers=2, files=files)
    with pytest.raises(
        UserError, match=r"A worker of the preparation was killed.*lower data.workers.*goes on"
    ):
        prepare(config, 320, QUIET.append)
    monkeypatch.undo()
    lines: list[str] = []
    folder = prepare(config, 320, lines.append)
    assert any(line.startswith("Going on from") for line in lines)
    assert content(folder) == content(
        prepare(in_folder(config, tmp_path / "whole"), 320, QUIET.append)
    )


def _die_on_the_last_file(chunk, plan):
    if any(Path(file).name == "f.json.gz" for file, _, _ in chunk.rows):
        # Else a slow main process might have nothing yet that it could go on from.
        until(lambda: list(Path(os.environ[PREPARED]).rglob(STATE_NAME)), "a record")
        os._exit(9)
    return workers.encode_chunk(chunk, workers._tokenizer, plan)


def _die_in_the_last_lane(chunks, plan, threads):
    for chunk in chunks:
        yield chunk, _die_on_the_last_file(chunk, plan)


def test_a_full_disk_is_said_and_nothing_is_lost(config, tmp_path, small_chunks, monkeypatch):
    real = WorkFolder._write
    calls = []

    def full(self, name, bytes_):
        calls.append(name)
        if len(calls) == 60:
            raise OSError(28, "No space left on device")
        real(self, name, bytes_)

    monkeypatch.setattr(WorkFolder, "_write", full)
    with pytest.raises(
        UserError, match=r"data.directory: .* is full \(No space left on device\); free some space"
    ):
        prepare(config, 320, QUIET.append)
    monkeypatch.setattr(WorkFolder, "_write", real)
    lines: list[str] = []
    folder = prepare(config, 320, lines.append)
    assert any(line.startswith("Going on from") for line in lines)
    assert content(folder) == content(
        prepare(in_folder(config, tmp_path / "whole"), 320, QUIET.append)
    )


def test_a_state_that_does_not_fit_its_files_is_not_trusted(config, tmp_path):
    process = start_and_hold(config, tmp_path, 9)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    [work] = Path(config.directory).glob(".*.work")
    (work / "train.bin").write_bytes(b"")
    output = finish(start(config, tmp_path))
    assert (
        "train.bin is shorter than its state says; preparing from the start" in output
        and "Going on" not in output
    )
    [folder] = Path(config.directory).iterdir()
    assert content(folder) == content(
        prepare(in_folder(config, tmp_path / "whole"), 320, QUIET.append)
    )


def test_the_second_of_two_waits_and_uses_the_first_ones(config, tmp_path):
    first = start_and_hold(config, tmp_path, 1)
    second = start(config, tmp_path)
    until(lambda: select.select([second.stdout], [], [], 0)[0], "a word of the second", 120)
    (tmp_path / GO).touch()
    assert "Prepared" in finish(first)
    said = finish(second)
    assert "another process" in said and "Prepared" not in said
    [folder] = Path(config.directory).iterdir()
    content(folder)


def test_a_directory_that_cannot_be_made(config, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"data.directory: .*file cannot be written"):
        prepare(in_folder(config, tmp_path / "file"), 320, QUIET.append)


def test_only_several_files_of_rows_of_some_size_have_lanes(write_rows, tmp_path, monkeypatch):
    files = [write_rows(f"{name}.jsonl", ["x" * 50]) for name in "abc"]
    (tmp_path / "d.txt").write_text("x" * 500)
    size = files[0].stat().st_size
    monkeypatch.setattr(lanes, "WORTH_LANES", 2 * size)
    source = files_source(files)
    assert lanes.can_have_lanes(source, None)
    assert lanes.can_have_lanes(source, {"file": 1, "offset": 5, "line": 1})
    assert not lanes.can_have_lanes(source, {"file": 2, "offset": 0, "line": 0})
    assert not lanes.can_have_lanes(files_source([*files, tmp_path / "d.txt"]), None)
    monkeypatch.setattr(lanes, "LARGEST_FILE", size - 1)
    assert not lanes.can_have_lanes(source, None)
    monkeypatch.undo()
    assert not lanes.can_have_lanes(source, None)  # not worth it
