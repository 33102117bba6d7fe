"""Reads tables from files: .jsonl and .json with an object a row, .csv, and .tsv in GLUE's form."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from train.data.sentences.rows import Columns, RawRow
from train.errors import UserError


class _Tabs(csv.Dialect):
    delimiter = "\t"
    quoting = csv.QUOTE_NONE
    lineterminator = "\n"


SUFFIXES = (".jsonl", ".json", ".tsv", ".csv")


def check_file(path: Path, key: str) -> None:
    """Refuse a file that cannot be a table, from its name and size.

    Args:
        key: the setting that names it.

    Raises:
        UserError: an unknown ending, or nothing in it.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"{key}: {path} has no known ending; use one of {', '.join(SUFFIXES)}")
    if path.stat().st_size == 0:
        raise UserError(f"{key}: {path} is empty (0 bytes); get it again or take it out of {key}")


def read_file(path: Path, columns: Columns) -> Iterator[RawRow]:
    """Yield every row of a file.

    Raises:
        UserError: the table lacks a column, or the file cannot be read.
    """
    reader = _json_rows if path.suffix in (".jsonl", ".json") else _separated_rows
    checked = False
    try:
        for row in reader(path):
            if not checked and not isinstance(row.values, str):
                columns.check_there(row.values, str(path))
                checked = True
            yield row
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); mend it") from error


def _json_rows(path: Path) -> Iterator[RawRow]:
    """Yield an object of each line; a .json file may also be one list of them."""
    if path.suffix == ".json" and path.read_bytes().lstrip()[:1] == b"[":
        yield from _list_rows(path)
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield _object_row(path, number, json.loads(line))
            except UnicodeDecodeError:
                yield RawRow(str(path), number, "not UTF-8")
            except json.JSONDecodeError:
                yield RawRow(str(path), number, "not JSON")


def _list_rows(path: Path) -> Iterator[RawRow]:
    try:
        rows = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} is no JSON list ({error}); mend it") from error
    for number, value in enumerate(rows, 1):
        yield _object_row(path, number, value)


def _object_row(path: Path, number: int, value: Any) -> RawRow:
    return RawRow(str(path), number, value if isinstance(value, dict) else "no JSON object")


def _separated_rows(path: Path) -> Iterator[RawRow]:
    """Yield the rows under a line of names; in .tsv a quotation mark is a character as any other.

    GLUE's own files are so, and have such marks inside their sentences.
    """
    form: type[csv.Dialect] = _Tabs if path.suffix == ".tsv" else csv.excel
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, form)
        names = next(reader, [])
        for fields in reader:
            yield RawRow(str(path), reader.line_num, _by_name(names, fields))


def _by_name(names: list[str], fields: list[str]) -> dict[str, str] | str:
    if len(fields) != len(names):
        return f"{len(fields)} fields under {len(names)} names"
    if any("\udc80" <= letter <= "\udcff" for field in fields for letter in field):
        return "not UTF-8"
    return dict(zip(names, fields, strict=True))
