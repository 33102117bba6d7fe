"""α and decay of every refresh as arrays by layer and module type.

Shapes: R refreshes, L layers (rows), T module types (columns).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.reporting.heatmap import grid
from train.telemetry.metrics import Record

MOST = 200  # refreshes that a report holds

Cube = NDArray[np.float32]


@dataclass(frozen=True)
class Refreshes:
    """Args:
    steps: of the refreshes [R].
    layers: labels of the rows [L].
    types: labels of the columns [T].
    values: "alpha", "decay" -> [R, L, T] float32, NaN where there is no module or no α; without
        what no refresh has.
    found: refreshes of the run, of which R are here.
    """

    steps: list[int]
    layers: list[str]
    types: list[str]
    values: dict[str, Cube]
    found: int


def read_refreshes(records: list[Record]) -> Refreshes | None:
    """From the refresh records; None where there are none.

    Of very many, MOST evenly spaced ones, first and last among them.
    """
    taken = [records[i] for i in evenly(len(records), MOST)]
    keys = {"alpha": "alphas", "decay": "weight_decays"}
    names = list(
        dict.fromkeys(
            name for record in taken for key in keys.values() for name in record.get(key) or {}
        )
    )
    if not names:
        return None
    places, layers, types = grid({name: float(index) for index, name in enumerate(names)})
    values = {}
    for quantity, key in keys.items():
        rows = [record.get(key) or {} for record in taken]
        if any(rows):
            # One more column, of NaN, for the places without a module.
            table_RN = np.array(
                [[*(_number(row.get(name)) for name in names), np.nan] for row in rows],
                dtype=np.float32,
            )
            values[quantity] = table_RN[
                :, np.where(np.isnan(places), len(names), places).astype(int)
            ]
    return Refreshes([int(record["step"]) for record in taken], layers, types, values, len(records))


def evenly(count: int, most: int) -> list[int]:
    """Indices of `most` of `count` things, evenly spaced, the first and the last among them; all
    where there are no more.
    """
    return (
        list(range(count))
        if count <= most
        else [round(i * (count - 1) / (most - 1)) for i in range(most)]
    )


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
