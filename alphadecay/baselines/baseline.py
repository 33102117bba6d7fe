"""What the baselines have in common: the surface of AlphaDecay where no spectrum is measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from alphadecay.attach import Attachment


class Baseline:
    """Counts optimizer steps, keeps a rule's state by weight name, and has no alphas.

    Args:
        rule: its name in the state.
        version: of the state's form.
        attachment: to the optimizers.
        names: of the modules.
    """

    plan = None
    rates = None  # learning rates are their groups'
    last_refresh_seconds = 0.0  # it is part of the optimizer's step

    def __init__(
        self, rule: str, version: int, attachment: Attachment, names: Collection[str]
    ) -> None:
        self.rule = rule
        self._version = version
        self._attachment = attachment
        self._names = tuple(names)
        self._step = attachment.step

    @property
    def alphas(self) -> dict[str, float]:
        """Empty: no spectrum is measured."""
        return {}

    @property
    def statuses(self) -> dict[str, str]:
        """Empty: no spectrum is measured."""
        return {}

    def _count_steps(self) -> None:
        """Take in the optimizer steps since the last call.

        Raises:
            RuntimeError: steps went by that the hooks have not seen.
        """
        self._step += self._attachment.steps_after(self._step)

    def _state(self) -> dict[str, Any]:
        return {"version": self._version, "rule": self.rule, "step": self._step}

    def _resume(self, state: Mapping[str, Any], names: Collection[str]) -> None:
        """Go on at a saved state's step.

        Args:
            names: of the modules that it is of.

        Raises:
            ValueError: the state is of another version, rule or model.
        """
        if (state.get("version"), state.get("rule")) != (self._version, self.rule):
            raise ValueError(
                f"the state is of rule {state.get('rule')} version {state.get('version')}, not "
                f"{self.rule} {self._version}"
            )
        if set(names) != set(self._names):
            raise ValueError("the state is another model's: its modules have other names")
        self._attachment.restart()
        self._step = int(state["step"])
