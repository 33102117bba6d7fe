"""α and weight decay by module type at one refresh: the table of a model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from alphadecay.inspect.module_names import layer_and_type
from alphadecay.inspect.run.metrics import Record

NONE = "–"


@dataclass(frozen=True)
class DecayRow:
    """One module type.

    Args:
        type: its name.
        count: its weights.
        alpha: mean and range of α in words.
        decay: mean and range of the weight decay in words.
    """

    type: str
    count: int
    alpha: str
    decay: str


@dataclass(frozen=True)
class DecayTable:
    """All module types.

    Args:
        step: of the refresh.
        has_alpha: whether any weight has one.
        rows: in the order of the model.
    """

    step: int
    has_alpha: bool
    rows: tuple[DecayRow, ...]


def decay_table(refreshes: Sequence[Record], step: int) -> DecayTable | None:
    """Arrange the last refresh up to a step by module type; None where there was none."""
    until = [record for record in refreshes if record["step"] <= step]
    decays: Mapping[str, float] = (until[-1].get("weight_decays") or {}) if until else {}
    if not decays:
        return None
    alphas: Mapping[str, float | None] = until[-1].get("alphas") or {}
    names_by_type: dict[str, list[str]] = {}
    for name in decays:
        names_by_type.setdefault(layer_and_type(name)[1], []).append(name)
    rows = [
        DecayRow(
            kind,
            len(names),
            _range([alphas.get(name) for name in names], "{:.2f}"),
            _range([decays[name] for name in names], "{:#.3g}"),
        )
        for kind, names in names_by_type.items()
    ]
    has_alpha = any(alpha is not None for alpha in alphas.values())
    return DecayTable(int(until[-1]["step"]), has_alpha, tuple(rows))


def _range(values: Sequence[float | None], form: str) -> str:
    """Write mean (least to largest), or the value where there is but one."""
    known = [value for value in values if value is not None]
    if not known:
        return NONE
    mean, least, largest = map(form.format, (fmean(known), min(known), max(known)))
    return mean if least == largest else f"{mean} ({least} to {largest})"
