"""Keeps the state of a run: named objects that checkpoints hold and a resumed run takes up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import isnan, nan
from typing import Any, Protocol


class Stateful(Protocol):
    """An object with a state of plain numbers, the same on every rank."""

    def state_dict(self) -> Any:
        """Return the state. May be collective: every rank calls it."""

    def load_state_dict(self, state: Any) -> None:
        """Go on where `state` was taken. May be collective."""


@dataclass
class Progress:
    """The steps and tokens that a run has done, and its validations.

    Args:
        step: optimizer steps done, skipped ones included: batch k always belongs to step k + 1.
        tokens: real tokens of those steps over all ranks.
        figure: of merit, first and latest.
        validated_step: of the latest validation.
        asked_step: of the latest questions of eval.downstream.
    """

    step: int = 0
    tokens: int = 0
    figure: tuple[float, float] = (nan, nan)
    validated_step: int = -1
    asked_step: int = -1

    def validated(self, step: int, figure: float) -> None:
        """Take in a validation."""
        first, _ = self.figure
        self.figure = (figure if isnan(first) else first, figure)
        self.validated_step = step

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return asdict(self) | {"figure": list(self.figure)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        # before there were other figures of merit
        first, latest = state["figure"] if "figure" in state else state["val_perplexity"]
        self.step = int(state["step"])
        self.tokens = int(state["tokens"])
        self.figure = (first, latest)
        self.validated_step = int(state["validated_step"])
        self.asked_step = int(state.get("asked_step", -1))  # checkpoints of before lack it


class RunState:
    """A registry of what a checkpoint keeps besides weights and moments.

    States are taken and taken up in the order of registration, on every rank alike.
    """

    def __init__(self) -> None:
        self._objects: dict[str, Stateful] = {}

    def register(self, name: str, stateful: Stateful) -> None:
        """Add an object under a name of its own.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._objects:
            raise ValueError(f"{name} is registered already")
        self._objects[name] = stateful

    def state_dict(self) -> dict[str, Any]:
        """Return every object's state by name. Collective."""
        return {name: stateful.state_dict() for name, stateful in self._objects.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hand every object its state; one that the checkpoint does not know keeps its own.

        Collective.
        """
        known = _in_todays_form(state)
        for name, stateful in self._objects.items():
            if known.get(name) is not None:
                stateful.load_state_dict(known[name])


# Names under which version 0.1.0 kept a run's progress, beside the objects.
_PROGRESS_OF_0_1 = ("step", "tokens", "val_perplexity", "validated_step")


def _in_todays_form(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the state by object's name, also of a checkpoint that version 0.1.0 wrote."""
    if "progress" in state:
        return dict(state)
    return {**state, "progress": {name: state[name] for name in _PROGRESS_OF_0_1}}
