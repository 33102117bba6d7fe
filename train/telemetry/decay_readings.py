"""Reads a controller of decay: what its refreshes and the steps between them are told by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from alphadecay.learning_rates import LearningRates
from train.telemetry.cumulative import half_lives


class DecayReadings(Protocol):
    """The readings of a controller of decay."""

    @property
    def alphas(self) -> dict[str, float]:
        """Spectral exponents by module; empty where the method has none."""

    @property
    def weight_decays(self) -> dict[str, float]:
        """Decays in force, by module."""

    @property
    def statuses(self) -> Mapping[str, Any]:
        """Modules without a score, and why."""

    @property
    def rates(self) -> LearningRates | None:
        """Learning rates by module, where the method can set them."""

    @property
    def last_refresh_step(self) -> int:
        """The step (1-based) that first ran on these decays; 0 for those of the construction."""

    @property
    def last_refresh_seconds(self) -> float:
        """Wall seconds of the last refresh."""


def at_their_rates(decay: DecayReadings) -> dict[str, float]:
    """Return what multiplies the scheduled learning rate in a module's decay, by module.

    It is λ, or r · λ where the module's own rate is r times the scheduled one.
    """
    ratios = decay.rates.ratios if decay.rates is not None else {}
    return {name: ratios.get(name, 1.0) * value for name, value in decay.weight_decays.items()}


def refresh_figures(
    decay: DecayReadings, lr: float, sums: Mapping[str, float], tokens_per_step: int
) -> dict[str, Any]:
    """Return what the line of a refresh says.

    Args:
        lr: the scheduled learning rate of the first step that runs on it.
        sums: Σ lr · λ by module so far.
        tokens_per_step: for the half-lives.
    """
    decays = decay.weight_decays
    values: dict[str, Any] = {
        "alphas": decay.alphas,
        "weight_decays": decays,
        "refresh_seconds": decay.last_refresh_seconds,
        "cumulative_decay": {name: sums.get(name, 0.0) for name in decays},
        **half_lives(lr, at_their_rates(decay), tokens_per_step),
    }
    if decay.statuses:
        values["statuses"] = decay.statuses
    if decay.rates is not None and decay.rates.targets:
        values["lr_ratios"] = decay.rates.targets
        values["learning_rates"] = {n: lr * ratio for n, ratio in decay.rates.ratios.items()}
    return values
