"""What changed between two checkpoints, or between a base and its fine-tune.

Weights are matched by name. The distance is Frobenius' norm of the difference over that of the
base: how far a weight has moved for its size.

Shapes: weight_MN of either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from alphadecay.inspect.analysis.rows import Analysis, Row
from alphadecay.inspect.models import Weight, matrices
from alphadecay.inspect.sources import BrokenTensor


@dataclass(frozen=True)
class Change:
    """This is what changed in one weight.

    A number that there is none of is NaN.

    Args:
        name: in the second model.
        alphas: in the first and in the second.
        decays: that AlphaDecay would give in each.
        stable_ranks: in each.
        distance: of the second weight from the first, relative to the first's norm.
    """

    name: str
    alphas: tuple[float, float]
    decays: tuple[float, float]
    stable_ranks: tuple[float, float]
    distance: float

    @property
    def delta(self) -> float:
        """Alpha in the second less alpha in the first."""
        return self.alphas[1] - self.alphas[0]


@dataclass(frozen=True)
class Difference:
    """This is what changed between two models.

    Args:
        first: where the first was read from.
        second: where the second was.
        changes: of the weights that both have, the largest change of alpha first.
        only_first: names of weights that the second does not have.
        only_second: names of weights that the first does not have.
        reshaped: names of weights whose shapes differ -> both.
        set_aside: what could not be measured in either -> why.
        quality: measures of the whole, in the first and in the second.
    """

    first: str
    second: str
    changes: tuple[Change, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    reshaped: Mapping[str, str]
    set_aside: Mapping[str, str]
    quality: Mapping[str, tuple[float, float]]

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        made = asdict(self)
        made["changes"] = [{**asdict(one), "delta": one.delta} for one in self.changes]
        result: dict[str, Any] = _plain(made)
        return result


def compare(
    first: Analysis, second: Analysis, distances: Mapping[str, float], names: Mapping[str, str]
) -> Difference:
    """Return what changed.

    Args:
        distances: of the weights, by their name in the second.
        names: of the weights that are one: in the second -> in the first.
    """
    before = {row.name: row for row in first}
    after = {row.name: row for row in second}
    changes = []
    reshaped = {}
    for name, row in after.items():
        other = before.get(names.get(name, ""))
        if other is None:
            continue
        if other.shape != row.shape:
            reshaped[name] = f"{list(other.shape)} became {list(row.shape)}"
            continue
        changes.append(_change(other, row, distances.get(name, math.nan)))
    matched = {name: names[name] for name in after if names.get(name) in before}
    aside = [(model, held) for model in (first, second) for held in model.set_aside.items()]
    return Difference(
        first.model,
        second.model,
        tuple(sorted(changes, key=_by_change)),
        tuple(name for name in before if name not in matched.values()),
        tuple(name for name in after if name not in matched),
        reshaped,
        {f"{model.model}: {name}": why for model, (name, why) in aside},
        {name: (first.quality[name], second.quality[name]) for name in first.quality},
    )


def _change(before: Row, after: Row, distance: float) -> Change:
    return Change(
        after.name,
        (before.alpha, after.alpha),
        (before.decay, after.decay),
        (before.stable_rank, after.stable_rank),
        distance,
    )


def match(first: Sequence[str], second: Sequence[str]) -> dict[str, str]:
    """Return which name of the second model is which of the first: the same, or where no name is,
    the same behind a prefix that either puts in front.
    """
    held = set(first)
    same = {name: name for name in second if name in held}
    if same or not first or not second:
        return same
    prefixes = {
        longer.removesuffix(shorter)
        for one in first
        for other in second
        for shorter, longer in (sorted((one, other), key=len),)
        if longer.endswith(f".{shorter}")
    }
    best: dict[str, str] = {}
    for prefix in sorted(prefixes):
        found = {name: prefix + name for name in second if prefix + name in held}
        found |= {
            name: name.removeprefix(prefix)
            for name in second
            if name.startswith(prefix) and name.removeprefix(prefix) in held
        }
        best = found if len(found) > len(best) else best
    return best


def distances_of(
    first: Sequence[Weight], second: Sequence[Weight], names: Mapping[str, str]
) -> dict[str, float]:
    """Return ||B - A|| / ||A|| of the weights that are one, by the name in the second; two matrices
    are in memory at a time.
    """
    by_name = {weight.name: weight for weight in first}
    pairs = [(by_name[names[w.name]], w) for w in second if names.get(w.name) in by_name]
    pairs = [(one, other) for one, other in pairs if one.shape == other.shape]
    befores = matrices([one for one, _ in pairs])
    afters = matrices([other for _, other in pairs])
    found = {}
    for (_, before), (weight, after) in zip(befores, afters, strict=True):
        if not isinstance(before, BrokenTensor) and not isinstance(after, BrokenTensor):
            found[weight.name] = _distance(before, after)
        del before, after
    return found


def _distance(before_MN: Tensor, after_MN: Tensor) -> float:
    before_MN = before_MN.float()
    norm = float(before_MN.norm())
    return float((after_MN.float() - before_MN).norm()) / norm if norm > 0 else math.nan


def _by_change(change: Change) -> tuple[bool, float, str]:
    unknown = not math.isfinite(change.delta)
    return unknown, 0.0 if unknown else -abs(change.delta), change.name


def _plain(value: Any) -> Any:
    """Return a value with null in place of numbers that there are none of."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
