"""Reads the rows of a grid and the values of its axes: labels with overrides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from train.config.arguments import SHORT
from train.errors import UserError
from train.experiments.grids.descriptions import as_mapping, as_text

FROM_THE_SWEEP = ("name", "output_dir", "resume", "run.seed")


@dataclass(frozen=True)
class Entry:
    """A row, or a value of an axis."""

    label: str
    recipe: str = ""
    only: tuple[str, ...] = ()
    overrides: Mapping[str, str] = field(default_factory=dict)


def read_entries(axis: Any, where: str) -> list[Entry]:
    """Read a mapping from labels to overrides.

    Raises:
        UserError: something in it has the wrong form, or is the sweep's to set.
    """
    return [
        _entry(label, value, f"{where}, {label}")
        for label, value in as_mapping(axis, where).items()
    ]


def _entry(label: str, value: Any, where: str) -> Entry:
    words = dict(as_mapping(value, where))
    recipe = as_text(words.pop("recipe", ""), f"{where}, recipe")
    only = words.pop("only", [])
    only = only if isinstance(only, list) else [only]
    patterns = tuple(as_text(pattern, f"{where}, only") for pattern in only)
    return Entry(label, recipe, patterns, read_overrides(words, where))


def read_overrides(values: Any, where: str) -> dict[str, str]:
    """Read overrides as text by their whole keys.

    Raises:
        UserError: they have the wrong form, or one is the sweep's to set.
    """
    overrides = {}
    for word, value in as_mapping(values, where).items():
        key = SHORT.get(word, word)
        if key in FROM_THE_SWEEP:
            way_out = "use seeds" if key == "run.seed" else "leave it out"
            raise UserError(f"{where}: {key} is set by the sweep for each run; {way_out}")
        overrides[key] = value if isinstance(value, str) else json.dumps(value)
    return overrides
