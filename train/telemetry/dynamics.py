"""Measures what a step did to each weight matrix, beside what decay and learning rate say it would.

Where a norm follows a matrix its direction alone counts: how far a step turns it is the learning
rate that the function sees, and decay acts through the norm on that (arXiv 1706.05350). Decay and
updates balance at a rotation that no longer depends on the gradients (arXiv 2305.17212); which of
these a run is in tells its regime (arXiv 2310.04415).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from alphadecay.baselines.fixed_norms import FixedNorms
from alphadecay.baselines.gradient_decay import GradientDecay
from train.config import DecayConfig, OptimConfig
from train.config.optim import ADAM
from train.telemetry.decay_readings import DecayReadings
from train.telemetry.shards import Shards, squared_norms


class Settings(NamedTuple):
    """What one weight's step ran at.

    Args:
        lr: its learning rate.
        weight_decay: its decay.
        relative: the step's length over the weight's norm, where the method fixes that; else None.
    """

    lr: float
    weight_decay: float
    relative: float | None = None


class Dynamics:
    """Every so many steps it keeps this rank's weights from before a step until after it.

    Args:
        every: steps between two measurements; 0 measures nothing.
        optim: what the optimizer makes of learning rate and decay.
        decay: towards what, and at which elements, weights decay.
        shards: this rank's pieces of the weights.
    """

    def __init__(self, every: int, optim: OptimConfig, decay: DecayConfig, shards: Shards) -> None:
        self._every = every
        self._optim = optim
        # cautious decay spares elements, by the gradients; towards the start no norm shrinks
        self._has_balance = not decay.cautious and decay.towards == "zero"
        self._shards = shards
        self._before: list[Tensor] | None = None
        self._columns: list[Tensor] | None = None  # of a step that is not read yet
        self._settings: dict[str, Settings] = {}
        self._momentum = 0.0

    def begin(self, step: int) -> None:
        """Keep the weights as they are, where this step (1-based) is one to measure."""
        is_due = self._every > 0 and step % self._every == 0
        self._before = [view.clone() for view in self._shards.views()] if is_due else None
        self._columns = None

    @torch.no_grad()
    def stepped(
        self, lr: float, base: float, decay: DecayReadings | None, *, momentum: float
    ) -> None:
        """Compare, after a step that was applied; waits for no device.

        Args:
            lr: the scheduled learning rate that it ran at.
            base: the base decay, where there is no controller.
            decay: the controller, before it turns to the next step.
            momentum: that it ran at; of Adam it is beta1.
        """
        if self._before is None:
            return
        after = self._shards.views()
        columns = [squared_norms(self._before), squared_norms(after)]
        if after:
            torch._foreach_sub_(self._before, after)
        self._columns = [*columns, squared_norms(self._before)]
        self._before = None
        self._settings = _settings_of(self._shards.names, lr, base, decay)
        self._momentum = momentum

    def read(self) -> dict[str, dict[str, float | None]]:
        """Return the figures of the step measured, each by parameter; empty where none was.

        Collective where a step was measured. Of matrices: `rotation`, the angle in radians between
        a weight before and after the step; `equilibrium`, that angle over the one at which decay
        and updates balance, 1 in the long run where a norm follows; `norm_growth`, ln of the norm
        after over before; `effective_lr`, the learning rate over the norm, or over its square with
        SGD, and under Hyperball a step's length over the norm.
        """
        if self._columns is None:
            return {}
        rows = self._shards.sums(self._columns).sqrt().T.tolist()
        self._columns = None
        found: dict[str, dict[str, float | None]] = {key: {} for key in KEYS}
        for name, (old, new, moved) in zip(self._shards.names, rows, strict=True):
            if name in self._shards.matrices and old and new:
                figures = self._figures(self._settings.get(name), old, new, moved)
                for key, value in zip(KEYS, figures, strict=True):
                    found[key][name] = value
        return found

    def _figures(
        self, settings: Settings | None, old: float, new: float, moved: float
    ) -> tuple[float | None, ...]:
        angle = rotation(old, new, moved)
        growth = math.log(new / old)
        if settings is None:
            return angle, None, growth, None
        lr, weight_decay, relative = settings
        balance = None
        if self._has_balance:
            balance = equilibrium_rotation(self._optim.name, lr, weight_decay, self._momentum)
        if relative is None:
            relative = lr / new ** (1 if self._optim.name in ADAM else 2)
        return angle, angle / balance if balance else None, growth, relative


KEYS = ("rotation", "equilibrium", "norm_growth", "effective_lr")


def _settings_of(
    names: Sequence[str], lr: float, base: float, decay: DecayReadings | None
) -> dict[str, Settings]:
    """Return the settings of each parameter that has one of each, not parts of it."""
    ratios = decay.rates.ratios if decay is not None and decay.rates is not None else {}
    decays = decay.weight_decays if decay is not None else {}
    if isinstance(decay, GradientDecay) and decay.rule == "awd":
        # one decay for all, embeddings and head too
        base, decays = next(iter(decays.values()), base), {}
    in_parts = {name.partition("[")[0] for name in decays if "[" in name}
    found = {
        name: Settings(lr * ratios.get(name, 1.0), decays.get(name, base))
        for name in names
        if name not in in_parts
    }
    if isinstance(decay, FixedNorms):
        for name, rate in decay.relative_rates.items():  # parts of a parameter have one rate
            whole = name.partition("[")[0]
            found[whole] = found[whole]._replace(relative=lr * rate)
    return found


def rotation(old: float, new: float, moved: float) -> float:
    """Return the angle between two vectors from their norms and that of their difference.

    By |a − b|² = (|a| − |b|)² + 4·|a|·|b|·sin²(θ/2), in which nothing cancels where θ is small.
    """
    square = max(0.0, moved * moved - (new - old) ** 2) / (4.0 * old * new)
    return 2.0 * math.asin(min(1.0, math.sqrt(square)))


def equilibrium_rotation(
    optimizer: str, lr: float, weight_decay: float, momentum: float
) -> float | None:
    """Return the angle a step at which updates of random gradients and decay balance.

    Decay takes lr · λ of the norm, and updates at right angles to the weight give it back; momentum
    β makes each update smaller than what a gradient moves the weight in the end (arXiv 2305.17212).
    None with Adam's L2 penalty, where it depends on the gradients.

    Args:
        optimizer: by its name in `optim.name`.
        lr: of the step.
        weight_decay: λ.
        momentum: of the step; of Adam it is beta1.
    """
    balance = math.sqrt(2.0 * lr * weight_decay)
    if optimizer == "adam":
        return None
    if optimizer == "sgd":
        return balance / math.sqrt(1.0 + momentum)
    return balance * math.sqrt((1.0 - momentum) / (1.0 + momentum))
