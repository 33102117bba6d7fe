"""Finds grids by name: those shipped in train/grids/*.yaml, and a file of one's own.

train/experiments/grids/grid_yaml.py tells how one is written down.
"""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path

from train.errors import UserError
from train.experiments.grids.cells import Cell, Grid, Run
from train.experiments.grids.descriptions import Description, read_descriptions
from train.experiments.grids.grid_yaml import make_grid
from train.system.provenance import ROOT

__all__ = ["Cell", "Grid", "Run", "load_grid", "shipped"]

SHIPPED = ROOT / "train" / "grids"
SUFFIXES = (".yaml", ".yml")


def load_grid(name_or_path: str) -> Grid:
    """Return a shipped grid by its name, or the one that a YAML file describes.

    Every cell's configuration has been read.

    Raises:
        UserError: there is none; or the description is wrong, and then where and what to do.
    """
    if name_or_path.endswith(SUFFIXES):
        path = Path(name_or_path)
        descriptions = read_descriptions(path)
        if len(descriptions) != 1:
            raise UserError(
                f"{path} describes {len(descriptions)} grids ({', '.join(descriptions)}); give "
                "each a file of its own"
            )
        [(name, description)] = descriptions.items()
        return make_grid(path, name, description)
    grids = _shipped()
    if name_or_path not in grids:
        near = difflib.get_close_matches(name_or_path, grids, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(grids)}."
        raise UserError(
            f"no grid {name_or_path!r}; {hint} A file of your own is named with its ending, as in "
            "mine.yaml"
        )
    path, description = grids[name_or_path]
    return make_grid(path, name_or_path, description)


def shipped() -> tuple[str, ...]:
    """Return the names of the grids that come with the program."""
    return tuple(_shipped())


@cache
def _shipped() -> dict[str, tuple[Path, Description]]:
    """Read the shipped grids by name; a test sees that no two files have one of the same."""
    grids = {}
    for path in sorted(SHIPPED.glob("*.yaml")):
        for name, description in read_descriptions(path).items():
            grids[name] = (path, description)
    return grids
