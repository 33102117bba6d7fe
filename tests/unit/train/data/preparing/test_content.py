"""Corpora known by content: copied, touched, renamed, or of an earlier version."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest

from train.data.loading.dataset import data_identity, only_content_tells, same_data
from train.data.preparing import content
from train.data.preparing.content import CACHE_NAME, FollowingHashes, HashCache
from train.data.preparing.prepare import find_prepared, prepare
from train.data.sources.files import files_source
from train.system.files import sha256_of

QUIET: list[str] = []


def forget_content(folder: Path) -> None:
    """Make a prepared folder one of an earlier version, which knew no hashes."""
    path = folder / "meta.json"
    meta = json.loads(path.read_text())
    old = {key: value for key, value in meta.items() if key not in ("hashes", "inputs")}
    path.write_text(json.dumps(old))


@pytest.fixture
def config(write_rows, settings, documents, sentences):
    files = (write_rows("a.jsonl", documents), write_rows("b.json.gz", sentences(30, seed=1)))
    return settings(*files, workers=1)


def moved(config, folder: Path):
    """Copy the corpus to a folder under other names, and return its configuration."""
    folder.mkdir()
    files = []
    for number, name in enumerate(config.files):
        files.append(folder / f"{number}{''.join(Path(name).suffixes)}")
        shutil.copyfile(name, files[-1])
    return dataclasses.replace(config, files=tuple(map(str, files)))


def test_a_touched_and_a_copied_corpus_are_found_prepared(config, tmp_path, monkeypatch):
    folder = prepare(config, 320, QUIET.append)
    for name in config.files:
        os.utime(name, ns=(1, 1))
    lines: list[str] = []
    assert prepare(config, 320, lines.append) == folder
    assert lines[0].startswith("Hashing 2 files, 0.00 GB")
    assert lines[1:] == [
        f"The files are those of {folder}, by content",
        f"Using the prepared corpus in {folder}",
    ]
    copy = moved(config, tmp_path / "copy")
    assert find_prepared(copy, 320) == (folder, True)
    assert prepare(copy, 320, QUIET.append) == folder
    monkeypatch.setattr(content, "sha256_of", None)  # all of them are known by now
    lines.clear()
    for known in (config, copy):
        assert prepare(known, 320, lines.append) == folder
    assert not any(line.startswith("Hashing") for line in lines)


def test_what_was_not_read_does_not_matter_and_what_was_read_does(config, write_rows, documents):
    few = dataclasses.replace(config, max_documents=20)
    folder = prepare(few, 320, QUIET.append)
    Path(config.files[1]).write_bytes(b"\x1f\x8bother")
    assert find_prepared(few, 320) == (folder, True)
    write_rows("a.jsonl", [*documents[:-1], documents[-1].swapcase()])
    assert not find_prepared(few, 320)[1]


def test_another_order_other_settings_or_more_files_are_not_the_same(config, write_rows):
    prepare(config, 320, QUIET.append)
    others = [
        dataclasses.replace(config, files=config.files[::-1]),
        dataclasses.replace(config, validation_fraction=0.2),
        dataclasses.replace(config, files=(*config.files, str(write_rows("c.jsonl", ["more"])))),
        dataclasses.replace(config, files=config.files[:1]),
        dataclasses.replace(config, files=config.files[:1], validation_files=config.files[1:]),
    ]
    assert not any(find_prepared(other, 320)[1] for other in others)


def test_a_dry_run_leaves_no_hashes_behind(config, tmp_path):
    folder = prepare(config, 320, QUIET.append)
    copy = moved(config, tmp_path / "copy")
    assert find_prepared(copy, 320) == (folder, True)
    assert not (folder.parent / CACHE_NAME).exists()


def test_hashes_are_of_the_bytes_and_a_cache_forgets_what_changed(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    cache = HashCache(tmp_path)
    assert cache.sha256(path) == sha256_of(path)
    cache.save()
    assert HashCache(tmp_path).known(path) == sha256_of(path)
    os.utime(path, ns=(1, 1))
    assert HashCache(tmp_path).known(path) == ""
    (tmp_path / CACHE_NAME).write_text("[1]")
    assert HashCache(tmp_path).known(path) == ""


def test_a_file_that_changes_while_it_is_read_is_not_vouched_for(write_rows):
    path = write_rows("a.jsonl", ["one"])
    with FollowingHashes(files_source([path]).files) as hashes:
        hashes.read_up_to(1)
        os.utime(path, ns=(1, 1))
        assert hashes.result() == []
    with FollowingHashes([path]) as hashes:
        hashes.read_up_to(1)
        [facts] = hashes.result()
    assert (facts.form, facts.size, facts.sha256) == ("rows", path.stat().st_size, sha256_of(path))


def test_a_run_of_an_earlier_version_goes_on_after_its_corpus_was_touched(config):
    """Its checkpoint has the fingerprint of a folder that is there, and knows no hashes."""
    old = prepare(config, 320, QUIET.append)
    forget_content(old)
    saved = f"{old.name.rpartition('-')[2]} packed"
    assert data_identity([old], config) == saved
    os.utime(config.files[0], ns=(1, 1))
    new = prepare(config, 320, QUIET.append)
    assert new != old
    assert data_identity([new], config) != saved
    assert same_data(saved, [new], config)
    assert same_data(data_identity([new], config), [old], config)
    padded = dataclasses.replace(config, rows="padded")
    assert not same_data(saved, [new], padded)
    shutil.rmtree(old)
    assert not same_data(saved, [new], config)  # nothing tells what it stood for
    assert not same_data(None, [new], config)


def test_other_tokens_have_another_name(config, write_rows, documents):
    one = prepare(config, 320, QUIET.append)
    write_rows("a.jsonl", documents[:-1])
    two = prepare(config, 320, QUIET.append)
    saved = data_identity([one], config)
    assert not same_data(saved, [two], config)
    forget_content(two)
    assert not same_data(saved, [two], config)


def test_a_run_that_began_before_its_corpus_was_there_goes_on(config):
    """Its checkpoint has the fingerprint of the folder that was to come."""
    early = dataclasses.replace(config, start_early=True)
    folder, ready = find_prepared(early, 320)
    assert not ready
    saved = data_identity([folder], early)
    assert folder.name.rpartition("-")[2] in saved
    assert same_data(saved, [folder], early)
    assert prepare(early, 320, QUIET.append) == folder
    whole = data_identity([folder], early)
    assert whole != saved and same_data(saved, [folder], early)
    assert only_content_tells(whole, saved)
    assert not same_data(saved, [folder], config)  # another order
    assert not same_data(data_identity([folder], config), [folder], early)
    assert not only_content_tells(data_identity([folder], config), saved)
