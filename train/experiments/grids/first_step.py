"""A figure of a grid: the step at which a figure of the validations first reaches a bound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from alphadecay.inspect.run.metrics import FigureOfMerit
from train.errors import UserError
from train.experiments.grids.descriptions import as_mapping, as_number, as_text, check_keys

KEYS = ("first", "reaches", "label")


@dataclass(frozen=True)
class FirstStep:
    """The first step at which a figure is at least a bound, of those at which it is validated.

    Args:
        first: key in a validation line.
        reaches: the bound.
        label: what people call the step.
    """

    first: str
    reaches: float
    label: str

    @property
    def figure(self) -> FigureOfMerit:
        """The step as a figure of merit."""
        return FigureOfMerit(f"first_{self.first}", self.label, "lower")

    def step_of(self, validations: Iterable[Mapping[str, Any]]) -> int | None:
        """Return the step; None where the figure never reaches the bound."""
        for record in validations:
            value = record.get(self.first)
            if isinstance(value, int | float) and value >= self.reaches:
                return int(record["step"])
        return None


def read_first_step(value: Any, where: str) -> FirstStep | None:
    """Read a grid's `figure`; None where it has none.

    Raises:
        UserError: it has another form.
    """
    given = as_mapping(value, where)
    if not given:
        return None
    check_keys(given, KEYS, where)
    for key in KEYS[:2]:
        if key not in given:
            raise UserError(f"{where} has no {key}; write {{first: val_accuracy, reaches: 99}}")
    first = as_text(given["first"], f"{where}, first")
    reaches = as_number(given["reaches"], f"{where}, reaches")
    label = as_text(given.get("label", f"step of {first} {reaches:g}"), f"{where}, label")
    return FirstStep(first, reaches, label)
