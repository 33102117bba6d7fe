"""Reads metrics.jsonl: a JSON object a line, whose kind is train, validation, refresh, dynamics or
notice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from alphadecay.inspect.errors import InspectError

Record = dict[str, Any]


class FigureOfMerit(NamedTuple):
    """By what runs of a task are compared.

    name: its key in a validation line.
    label: what people call it.
    better: "lower" or "higher".
    """

    name: str
    label: str
    better: str


PERPLEXITY = FigureOfMerit("val_perplexity", "perplexity", "lower")


def figure_of(validations: Sequence[Record]) -> FigureOfMerit:
    """Return the figure of merit of a run; lines that name none are of language modelling."""
    told = next((r["figure"] for r in reversed(validations) if "figure" in r), None)
    return PERPLEXITY if told is None else FigureOfMerit(**told)


def read_metrics(path: str | Path, kind: str | None = None) -> list[Record]:
    """Read every line, or those of one kind; a last line cut short by a kill is left out.

    Raises:
        InspectError: the file is missing, or a line before the last is damaged.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InspectError(f"cannot read {path}: {error.strerror}") from error
    return parse_metrics(text, path, kind)


def parse_metrics(text: str, path: str | Path, kind: str | None = None) -> list[Record]:
    """Return the records of a file's text; arguments and errors as `read_metrics`.

    Args:
        path: for the message of an error.
    """
    lines = text.splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise InspectError(
                f"{path}, line {number}: not valid JSON ({error.msg}); delete that line"
            ) from error
        if kind is None or record["kind"] == kind:
            records.append(record)
    return records


def perplexity(loss: float) -> float:
    """Return exp(loss), infinite rather than an error where that overflows."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf


def finite_or_none(value: Any) -> Any:
    """Return the value with every NaN and infinity in it replaced by None."""
    if isinstance(value, Mapping):
        return {key: finite_or_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_none(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
