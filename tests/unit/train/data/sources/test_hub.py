"""allenai/c4 by the real client of the hub, from a repository that this machine serves."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.train.data.sources.hub import NAME, Hub
from train.config import DataConfig
from train.data.sources.quarantine import Quarantine
from train.data.sources.registry import open_sources
from train.errors import UserError

ROOT = Path(__file__).resolve().parents[5]
CARD = """---
configs:
- config_name: en
  data_files:
  - split: train
    path: en/c4-train.*.json.gz
  - split: validation
    path: en/c4-validation.*.json.gz
---
"""
# Reads the split as a preparation does, and prints the texts; then what a wrong revision says.
PROGRAM = """
import json, sys
from train.data.sources import chunks, retries
from train.data.sources.c4 import c4_source
from train.data.sources.quarantine import Quarantine
from train.errors import UserError
import huggingface_hub.utils._http as http
import time

http.time.sleep = retries.time.sleep = lambda seconds: None
chunks.CHUNK_ROWS = 16
source = c4_source("train", revision="v1")
print(json.dumps(list(source.documents(Quarantine(None, 0.0)))))
try:
    list(c4_source("train", revision="v9").chunks(None))
except UserError as error:
    print(error)
"""


def documents(revision: str, split: str, part: int) -> list[str]:
    return [f"{revision} {split} {part}.{row} " + "x" * 50 for row in range(40)]


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Path:
    """Two revisions of a repository in C4's layout: two files of training, one of validation."""
    root = tmp_path_factory.mktemp("hub")
    for revision in ("main", "v1"):
        (root / revision / "en").mkdir(parents=True)
        (root / revision / "README.md").write_text(CARD)
        for split, count in (("train", 2), ("validation", 1)):
            for part in range(count):
                name = f"en/c4-{split}.{part:05}-of-{count:05}.json.gz"
                with gzip.open(root / revision / name, "wt") as file:
                    for text in documents(revision, split, part):
                        file.write(json.dumps({"text": text, "url": "x"}) + "\n")
    return root


def test_the_hub_is_read_at_the_revision_through_an_unsteady_network(repository, tmp_path):
    hub = Hub(repository)
    hub.failing = 3
    hub.out_of_service = 3
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "0",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    hub.shutdown()
    assert done.returncode == 0, done.stderr
    texts, wrong = done.stdout.splitlines()
    assert json.loads(texts) == documents("v1", "train", 0) + documents("v1", "train", 1)
    said = [line for line in done.stderr.splitlines() if line.startswith("allenai/c4 en/train: ")]
    assert [line.partition("trying again ")[2] for line in said] == [
        "in 2 s (1 of 6)",
        "in 10 s (2 of 6)",
        "in 30 s (3 of 6)",
    ]
    assert "Revision 'v9' doesn't exist" in wrong and "data.revision" in wrong
    files = [path for path in hub.asked if path.endswith(".gz")]
    assert files and all(hub.commit("v1") in path for path in files)


def read(config: DataConfig) -> tuple[list[str], list[str]]:
    training, validation = open_sources(config)
    assert validation is not None
    quarantine = Quarantine(None, 0.0)
    return list(training.documents(quarantine)), list(validation.documents(quarantine))


def test_a_copy_is_read_by_its_path(repository):
    texts = read(DataConfig(repository=str(repository / "v1")))
    assert texts[0] == documents("v1", "train", 0) + documents("v1", "train", 1)
    assert texts[1] == documents("v1", "validation", 0)


def test_the_hubs_cache_is_read_where_the_hub_must_not_be_asked(repository, tmp_path, monkeypatch):
    from huggingface_hub import constants

    cache = tmp_path / "hub" / "datasets--allenai--c4"
    (cache / "snapshots").mkdir(parents=True)
    (cache / "snapshots" / ("a" * 40)).symlink_to(repository / "v1")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("a" * 40)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    assert read(DataConfig())[1] == documents("v1", "validation", 0)
    assert read(DataConfig(revision="a" * 40))[1] == documents("v1", "validation", 0)
    with pytest.raises(UserError, match=r"HF_HUB_OFFLINE is set.*no allenai/c4 at revision bbb"):
        read(DataConfig(revision="bbb"))


def test_a_copy_that_is_not_whole_is_said_and_one_without_a_split_refused(repository, tmp_path):
    (tmp_path / "en").mkdir()
    for split in ("train", "validation"):
        [first, *_] = sorted((repository / "v1/en").glob(f"c4-{split}.*"))
        (tmp_path / "en" / first.name).write_bytes(first.read_bytes())
    training, _ = open_sources(DataConfig(repository=str(tmp_path)))
    assert training.notes == (f"{tmp_path}: 1 of the 2 files of the train split are there",)
    (tmp_path / "en/c4-validation.00000-of-00001.json.gz").unlink()
    with pytest.raises(UserError, match=r"has no en/c4-validation\.\*\.json\.gz; get"):
        open_sources(DataConfig(repository=str(tmp_path)))


def test_the_name_of_the_hub_is_no_folder_here():
    assert not Path(NAME).exists()
