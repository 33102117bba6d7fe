"""Reads tables through `datasets`: GLUE from the hub or a copy of it, and folders that it saved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from train.config.sentences import GLUE, SentencesConfig
from train.data.sentences.rows import Columns, RawRow
from train.errors import UserError

SAVED = ("dataset_info.json", "state.json")  # what save_to_disk leaves in a folder


def is_saved(folder: Path) -> bool:
    """Return whether this is a folder that `datasets` saved."""
    return all((folder / name).is_file() for name in SAVED)


def saved_rows(folder: Path, columns: Columns) -> Iterator[RawRow]:
    """Yield every row of a saved folder.

    Raises:
        UserError: it cannot be loaded, or lacks a column.
    """
    from datasets import load_from_disk

    try:
        table = load_from_disk(str(folder))
    except Exception as error:  # its kinds depend on the version
        raise UserError(f"{folder} cannot be loaded by datasets ({_reason(error)})") from error
    yield from _rows(table, str(folder), columns)


def saved_files(folder: Path) -> list[Path]:
    """Return the files of a saved folder that hold its rows.

    Raises:
        UserError: it does not say.
    """
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        return [folder / entry["filename"] for entry in state["_data_files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is no folder that datasets saved: {error}") from error


def glue_files(config: SentencesConfig, split: str) -> list[Path]:
    """Return the files of a split in a copy of GLUE's repository; none where it is on the hub.

    Raises:
        UserError: the copy has no such split.
    """
    folder = Path(config.repository).expanduser()
    if not folder.is_dir():
        return []
    task = config.source.removeprefix(GLUE)
    paths = sorted((folder / task).glob(f"{split}-*.parquet"))
    if not paths:
        raise UserError(
            f"sentences.repository: {folder} has no {task}/{split}-*.parquet; get "
            f"{SentencesConfig.repository} again, or name files of your own by sentences.source "
            "files"
        )
    return paths


def glue_rows(config: SentencesConfig, split: str, columns: Columns) -> Iterator[RawRow]:
    """Yield every row of a split of a task of GLUE.

    Raises:
        UserError: it cannot be had.
    """
    from datasets import load_dataset

    paths = glue_files(config, split)
    name = f"{config.repository} {config.source.removeprefix(GLUE)}/{split}"
    try:
        if paths:
            table = load_dataset("parquet", data_files=list(map(str, paths)), split="train")
        else:
            table = load_dataset(
                config.repository,
                config.source.removeprefix(GLUE),
                split=split,
                revision=config.revision or None,
            )
    except Exception as error:  # the hub's clients raise dozens of unrelated types
        raise UserError(
            f"sentences.source: {name} cannot be loaded ({_reason(error)}); check the network and "
            "sentences.revision, or name the folder of a copy in sentences.repository"
        ) from error
    yield from _rows(table, name, columns)


def _rows(table: Any, name: str, columns: Columns) -> Iterator[RawRow]:
    columns.check_there(dict.fromkeys(table.column_names), name)
    for number, row in enumerate(table, 1):
        yield RawRow(name, number, row)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
