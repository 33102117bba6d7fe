"""Sources are found by the name of their file."""

from __future__ import annotations

from importlib import import_module
from typing import get_args, get_type_hints

import pytest

from train.config import DataConfig
from train.data.sources.registry import open_sources
from train.errors import UserError

NAMES = get_args(get_type_hints(DataConfig)["source"])


@pytest.mark.parametrize("name", NAMES)
def test_every_source_of_the_recipe_opens_by_its_name(name, write_rows):
    files = (str(write_rows("a.jsonl", ["good"])),) if name == "files" else ()
    training, validation = open_sources(DataConfig(source=name, files=files))
    assert training.identity[0] == name
    assert training.identity != (validation and validation.identity)
    assert import_module(f"train.data.sources.{name}").open_source.__module__.endswith(name)


def test_files_for_validation_go_before_a_source_s_own(write_rows):
    path = str(write_rows("v.jsonl", ["good"]))
    _, validation = open_sources(DataConfig(source="c4", validation_files=(path,)))
    assert validation is not None and validation.identity[0] == "files"


def test_no_files_named():
    with pytest.raises(UserError, match=r"data.files is empty"):
        open_sources(DataConfig(source="files"))
