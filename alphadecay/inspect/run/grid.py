"""Arranges values of modules by layer and type, for tables and pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from alphadecay.inspect.module_names import NO_LAYER, layer_and_type

# The order in which a token meets them; other types follow in the order of their names in the
# model.
TYPE_ORDER = ("q", "k", "v", "qkv", "o", "gate", "up", "down")

# values (NaN where there is no module), row labels, column labels
Grid = tuple[np.ndarray, list[str], list[str]]


def grid(values: Mapping[str, float]) -> Grid:
    """Arrange the values as rows of layers and columns of types."""
    cells = {layer_and_type(name): value for name, value in values.items()}
    layers = sorted({layer for layer, _ in cells}, key=lambda layer: (layer == NO_LAYER, layer))
    seen = list(dict.fromkeys(kind for _, kind in cells))
    kinds = sorted(
        seen,
        key=lambda kind: (
            TYPE_ORDER.index(kind) if kind in TYPE_ORDER else len(TYPE_ORDER) + seen.index(kind)
        ),
    )
    table = np.array(
        [[_number(cells.get((layer, kind))) for kind in kinds] for layer in layers], dtype=float
    )
    return table, ["other" if layer == NO_LAYER else str(layer) for layer in layers], kinds


def figures(value: float) -> str:
    """Write three significant figures, trailing zeros kept so that columns line up."""
    return f"{value:#.3g}" if value else "0"


def _number(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else math.nan
