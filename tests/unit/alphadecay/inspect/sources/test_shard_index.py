"""Models in several files, and indices that name what they should not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.sources import open_source

INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    save_file({"a": torch.arange(4.0)}, made / "one.safetensors")
    save_file({"b": torch.arange(5.0)}, made / "two.safetensors")
    write(made, {"a": "one.safetensors", "b": "two.safetensors"})
    (made / "config.json").write_text(json.dumps({"model_type": "llama"}))
    return made


def write(folder: Path, weight_map: Any) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("given", ["", INDEX])
def test_all_shards_are_read(folder: Path, given: str) -> None:
    source = open_source(folder / given)
    assert {name: t.read().tolist() for name, t in source.tensors.items()} == {
        "a": [0, 1, 2, 3],
        "b": [0, 1, 2, 3, 4],
    }
    assert source.config == {"model_type": "llama"}


def test_of_a_folder_saved_to_twice_the_file_that_would_be_loaded_is_read(folder: Path) -> None:
    save_file({"a": torch.ones(3)}, folder / "model.safetensors")
    source = open_source(folder)
    assert {name: t.read().tolist() for name, t in source.tensors.items()} == {"a": [1, 1, 1]}


def test_what_a_missing_shard_held_is_named(folder: Path) -> None:
    (folder / "two.safetensors").unlink()
    source = open_source(folder)
    assert set(source.tensors) == {"a"}
    assert set(source.broken) == {"b"} and "two.safetensors" in source.broken["b"]


def test_what_a_shard_does_not_hold_is_named(folder: Path) -> None:
    write(folder, {"a": "one.safetensors", "c": "one.safetensors"})
    assert open_source(folder).broken == {"c": "one.safetensors does not hold it"}


@pytest.mark.parametrize("kind", ["parent", "absolute", "link", "number", "empty", "zero byte"])
def test_nothing_outside_the_folder_is_read(kind: str, folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.safetensors"
    save_file({"a": torch.ones(3)}, secret)
    (folder / "link.safetensors").symlink_to(secret)
    named: dict[str, Any] = {
        "parent": "../secret.safetensors",
        "absolute": str(secret),
        "link": "link.safetensors",
        "number": 3,
        "empty": "",
        "zero byte": "one\0.safetensors",
    }
    write(folder, {"a": named[kind]})
    with pytest.raises(InspectError, match=r"which is (outside of it|no file's name)"):
        open_source(folder)


def test_a_single_file_or_configuration_that_leads_out_is_refused(
    folder: Path, tmp_path: Path
) -> None:
    (folder / INDEX).unlink()
    save_file({"a": torch.ones(3)}, tmp_path / "secret.safetensors")
    (folder / "model.safetensors").symlink_to(tmp_path / "secret.safetensors")
    with pytest.raises(InspectError, match="outside of it"):
        open_source(folder)
    os.replace(tmp_path / "secret.safetensors", folder / "model.safetensors")
    (tmp_path / "secret.json").write_text("{}")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(tmp_path / "secret.json")
    with pytest.raises(InspectError, match="outside of it"):
        open_source(folder)


def test_links_inside_hugging_faces_cache_are_followed(folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--us--ours" / "snapshots" / "1234"
    blobs = tmp_path / "models--us--ours" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for file in folder.iterdir():
        os.replace(file, blobs / f"of-{file.name}")
        (snapshot / file.name).symlink_to(Path("../../blobs") / f"of-{file.name}")
    assert set(open_source(snapshot).tensors) == {"a", "b"}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": []}', "[" * 100_000])
def test_what_is_no_index_is_told(text: str, folder: Path) -> None:
    (folder / INDEX).write_text(text)
    with pytest.raises(InspectError, match=INDEX):
        open_source(folder)


def test_what_is_no_file_of_bytes_is_not_opened(folder: Path) -> None:
    """Nobody writes into the pipe: an open of it would wait for ever."""
    os.mkfifo(folder / "pipe.safetensors")
    write(folder, {"a": "pipe.safetensors", "b": "two.safetensors"})
    with pytest.raises(InspectError, match="is no file of bytes"):
        open_source(folder)
