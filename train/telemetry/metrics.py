"""Writes and reads metrics.jsonl: one JSON object a line, append-only, cut back on resume.

A line's kind is train, validation, downstream, refresh, dynamics or notice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.run import metrics
from alphadecay.inspect.run.metrics import Record, finite_or_none
from train.errors import UserError
from train.system.files import write_atomically
from train.system.patience import patiently
from train.telemetry.json_lines import JsonLines


class MetricsWriter(JsonLines):
    """Writes metrics.jsonl; one process does, rank 0.

    Args:
        path: the file; its folder is made.
        resume_step: the step gone on from. Later lines are dropped, for those steps are run again.
            None starts an empty file and keeps an old one beside it as `<name>.previous`.
        say: takes a line when lines begin to wait, and when they have been written.

    Raises:
        UserError: the file cannot be begun.
    """

    def __init__(
        self,
        path: str | Path,
        resume_step: int | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        super().__init__(Path(path), say)
        try:
            patiently(lambda: self._begin(resume_step), say)
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from error

    def write(self, kind: str, step: int, values: Mapping[str, Any]) -> Record:
        """Append one line, and return what it says."""
        record = make_record(kind, step, values)
        self.append(record)
        return record

    def _begin(self, resume_step: int | None) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if resume_step is not None:
            _truncate(self.path, resume_step)
        elif self.path.exists():
            os.replace(self.path, self.path.with_name(self.path.name + ".previous"))
        self._open()


def make_record(kind: str, step: int, values: Mapping[str, Any]) -> Record:
    """Return what is written as one line.

    NaN and infinity become null, which strict JSON has no word for.
    """
    figures = {key: finite_or_none(value) for key, value in values.items()}
    return {"kind": kind, "step": step, **figures}


def check_metrics(path: Path, resume_step: int | None) -> None:
    """Make sure that the lines of a run that goes on can be read.

    Raises:
        UserError: they are damaged.
    """
    if resume_step is not None and path.exists():
        read_metrics(path)


def read_metrics(path: str | Path, kind: str | None = None) -> list[Record]:
    """Read every line, or those of one kind; a last line cut short by a kill is left out.

    Raises:
        UserError: the file is missing, or a line before the last is damaged.
    """
    try:
        text = patiently(lambda: Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    try:
        return metrics.parse_metrics(text, path, kind)
    except InspectError as error:
        raise UserError(str(error)) from error


def scalars(record: Record) -> dict[str, float]:
    """Return a record's figures under flat names, kind/key or kind/key/module, for dashboards.

    Text and missing values are left out.
    """
    figures: dict[str, float] = {}

    def walk(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                walk(f"{name}/{key}", item)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            figures[name] = value

    for key, value in record.items():
        if key not in ("kind", "step"):
            walk(f"{record['kind']}/{key}", value)
    return figures


def _truncate(path: Path, step: int) -> None:
    if path.exists():
        kept = [json.dumps(record) for record in read_metrics(path) if record["step"] <= step]
        write_atomically(path, "".join(line + "\n" for line in kept))
