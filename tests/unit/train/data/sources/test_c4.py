"""allenai/c4 by streaming, against stand-ins for the hub."""

from __future__ import annotations

import gzip
import json
import sys
import types

import pytest

from train.data.sources import chunks, retries
from train.data.sources.c4 import c4_source
from train.data.sources.quarantine import Quarantine
from train.errors import UserError


def fake_datasets(monkeypatch, rows, calls):
    def load_dataset(*args, **kwargs):
        calls.append((args, kwargs))
        yield from rows

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))


def test_c4_streams_the_split_at_its_revision(monkeypatch):
    calls: list[tuple] = []
    fake_datasets(monkeypatch, [{"text": "one"}, {"text": ""}, {"text": "two"}], calls)
    quarantine = Quarantine(None, 1.0)
    newest = c4_source("train").identity
    pinned = c4_source("validation", revision="abc")
    assert list(pinned.documents(quarantine)) == ["one", "two"]
    assert pinned.description == "allenai/c4 en validation@abc"
    assert calls == [
        (("allenai/c4", "en"), {"split": "validation", "streaming": True, "revision": "abc"})
    ]
    assert quarantine.set_aside == 1
    assert newest == ["c4", "en", "train", None]  # as in the fingerprints of earlier versions
    others = [c4_source("train", revision="abc"), c4_source("train", repository="me/c4")]
    assert newest not in [other.identity for other in others]


def test_c4_without_a_network_says_what_to_do(monkeypatch):
    def unreachable():
        raise ConnectionError("no route")
        yield

    monkeypatch.setattr(retries, "PAUSES", ())
    fake_datasets(monkeypatch, unreachable(), [])
    with pytest.raises(
        UserError,
        match=r"allenai/c4 en/train cannot be read from the hub "
        r"\(ConnectionError: no route\).*data.files",
    ):
        list(c4_source("train").documents(Quarantine(None, 0.0)))


def test_c4_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match="needs the datasets package"):
        list(c4_source("train").documents(Quarantine(None, 0.0)))


def test_c4_goes_on_from_any_chunk_without_reading_what_came_before(
    tmp_path, monkeypatch, sentences
):
    """Real streaming of the datasets package, from files instead of the hub."""
    import datasets

    opened = []
    real_open = gzip.open
    for part in range(3):
        with real_open(tmp_path / f"part-{part}.json.gz", "wt") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in sentences(20, seed=part))

    def load_dataset(name, subset, split, streaming, revision):
        paths = sorted(map(str, tmp_path.glob("*.gz")))
        opened.append(name)
        return real_load("json", data_files={split: paths}, split=split, streaming=streaming)

    real_load = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(chunks, "CHUNK_BYTES", 1500)
    source = c4_source("train", revision="abc")
    whole = list(source.chunks(None))
    assert [row[2] for chunk in whole for row in chunk.rows] == [
        text for part in range(3) for text in sentences(20, seed=part)
    ]
    for at in (0, 3, len(whole) - 2):
        again = json.loads(json.dumps(whole[at].after))
        rest = [row for chunk in source.chunks(again) for row in chunk.rows]
        assert rest == [row for chunk in whole[at + 1 :] for row in chunk.rows]
        assert again["state"] is not None
    assert set(opened) == {"allenai/c4"}
