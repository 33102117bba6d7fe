"""α, decay and learning rate of every refresh as arrays by layer and module type.

Shapes: R refreshes, L layers (rows), T module types (columns).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from alphadecay.inspect.run.grid import grid
from alphadecay.inspect.run.metrics import Record

MOST = 200  # refreshes that a report holds
# quantity -> its name in a record
KEYS = {"alpha": "alphas", "decay": "weight_decays", "rate": "lr_ratios"}
# embeddings and the head, which have a rate alone, have no place among layers and types
NAMED_BY = ("alphas", "weight_decays")
DYNAMICS = {key: key for key in ("rotation", "equilibrium", "norm_growth", "effective_lr")}
NAMES = {"alpha": "α", "decay": "Weight decay", "rate": "Learning rate, × the scheduled one"}

Cube = NDArray[np.float32]


@dataclass(frozen=True)
class Refreshes:
    """The refreshes that a report shows.

    Args:
        steps: of the refreshes [R].
        layers: labels of the rows [L].
        types: labels of the columns [T].
        values: "alpha", "decay", "rate" -> [R, L, T] float32, NaN where there is no module or no α;
            without what no refresh has. A rate is a multiple of the scheduled one.
        count: refreshes of the run, of which R are here.
    """

    steps: list[int]
    layers: list[str]
    types: list[str]
    values: dict[str, Cube]
    count: int


def read_refreshes(
    records: list[Record],
    keys: Mapping[str, str] = MappingProxyType(KEYS),
    named_by: Sequence[str] = NAMED_BY,
) -> Refreshes | None:
    """Arrange records of refreshes, or others by weight, by layer and type; None where there are
    none.

    Where there are very many, MOST evenly spaced ones are kept, first and last among them.
    """
    taken = [records[place] for place in evenly(len(records), MOST)]
    names = _names(taken, named_by)
    if not names:
        return None
    places_LT, layers, types = grid({name: float(index) for index, name in enumerate(names)})
    # The last column of a table is NaN, for the places without a module.
    columns_LT = np.where(np.isnan(places_LT), len(names), places_LT).astype(int)
    values = {}
    for quantity, key in keys.items():
        rows = [record.get(key) or {} for record in taken]
        if any(rows):
            table_RN = np.array(
                [[*(_number(row.get(name)) for name in names), np.nan] for row in rows],
                dtype=np.float32,
            )
            values[quantity] = table_RN[:, columns_LT]
    steps = [int(record["step"]) for record in taken]
    return Refreshes(steps, layers, types, values, len(records))


def has_any(refreshes: Refreshes, quantity: str) -> bool:
    """Return whether any module has this quantity at any refresh."""
    values_RLT = refreshes.values.get(quantity)
    return values_RLT is not None and bool(np.isfinite(values_RLT).any())


def evenly(count: int, most: int) -> list[int]:
    """Choose `most` of `count` indices, evenly spaced, the first and the last among them; all where
    there are no more.
    """
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _names(records: Iterable[Record], keys: Sequence[str]) -> list[str]:
    """List every weight that any record has under these keys, in the order of appearance."""
    values = [record.get(key) or {} for record in records for key in keys]
    return list(dict.fromkeys(name for by_name in values for name in by_name))


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
