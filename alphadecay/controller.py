"""AlphaDecay: when to refresh, in what order, and what to remember.

The one class a training loop meets.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from alphadecay.assignment import assign
from alphadecay.binding import bare_optimizer, bind
from alphadecay.config import AlphaDecayConfig
from alphadecay.fragments import exempt_parameters
from alphadecay.modules import find_modules
from alphadecay.optim import take_over_weight_decay
from alphadecay.owners import Plan
from alphadecay.policy import ema
from alphadecay.refresh import SpectralRefresh, SpreadRefresh
from alphadecay.spectral import FIELDS, Estimate, Status, to_estimate
from alphadecay.transport.detect import detect

_STATE_VERSION = 1


class AlphaDecay:
    """Module-wise weight decay from heavy-tailed spectra (arXiv 2506.14562); used like a
    learning-rate scheduler.

    Every `interval` steps it measures PL_Alpha_Hill of every linear weight and gives each its own
    decay, from s1 to s2 times the optimizer's weight decay. Constructing and stepping it are
    collective: every rank does both, in the same order.

    Args:
        model: a module, a DDP wrapper, or a DeepSpeed engine; wrap first.
        optimizer: the optimizer that updates it; left out with an engine, which has its own:
            another is refused.
        include: shell patterns of the weights to take instead of every linear weight.
        exclude: shell patterns of weights to leave at the base decay.
        splits: pattern -> {part: rows} for fused weights.
        choices: the fields of AlphaDecayConfig: interval, s1, s2, tail, method, assign, compat, ...

    Raises:
        ValueError: a choice, pattern or wrapper that cannot work; the message says what to do.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any = None,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        splits: Mapping[str, Mapping[str, int]] | None = None,
        **choices: Any,
    ) -> None:
        self.config = _config(choices)
        target = detect(model)
        self._engine = target.engine
        self._transport = target.transport
        self._optimizer = bare_optimizer(target, optimizer)
        modules = find_modules(
            target.model, include, exclude, splits, published=self.config.published
        )
        self._modules = {module.name: module for module in modules}
        self._sizes = {module.name: math.prod(module.shape) for module in modules}
        self._measurer = SpectralRefresh(self._modules, self._transport, self.config)
        self.plan: Plan = self._measurer.plan
        exempt = [] if self.config.published else exempt_parameters(target.model.parameters())
        self._fragments = bind(self._engine, self._optimizer, modules, exempt)
        self._step = int(self._engine.global_steps) if self._engine is not None else 0
        self._estimates: dict[str, Estimate] = {}
        self._weight_decays: dict[str, float] = {}
        # the alphas that the decays come from: smoothed where ema is on
        self._mapped: dict[str, float] = {}
        self.last_refresh_seconds = 0.0
        # A spread refresh under way: its Grams, or its estimates where a state_dict() or a load has
        # them already.
        self._pending: SpreadRefresh | dict[str, Estimate] | None = None
        self._apply_step = 0
        self._pending_seconds = 0.0
        self.refresh()

    @property
    def alphas(self) -> dict[str, float]:
        """PL_Alpha of every module at the last refresh, by weight name; NaN where the module has a
        status.
        """
        return {name: estimate.alpha for name, estimate in self._estimates.items()}

    @property
    def statuses(self) -> dict[str, str]:
        """Of modules that keep the base decay: why, by weight name."""
        return {
            name: e.status.label for name, e in self._estimates.items() if e.status is not Status.OK
        }

    @property
    def weight_decays(self) -> dict[str, float]:
        """Decay of every module since the last refresh, by weight name."""
        return dict(self._weight_decays)

    @property
    def last_refresh_step(self) -> int:
        """The step (1-based) that first ran on the current decays; 0 for those of the construction."""
        return self._last_refresh_step

    @property
    def solving(self) -> bool:
        """True while a spread refresh has Grams left to solve; then `state_dict()` is collective."""
        return isinstance(self._pending, SpreadRefresh)

    def step(self) -> bool:
        """After each optimizer step: refreshes where the next step is a multiple of the interval.

        Collective at those steps. With an engine a call between accumulation boundaries does
        nothing.

        Returns:
            True where the decays were refreshed.
        """
        if self._engine is not None:
            if int(self._engine.global_steps) == self._step:
                return False
            self._step = int(self._engine.global_steps)
        else:
            self._step += 1
        if self.config.spread:
            return self._spread()
        if (self._step + 1) % self.config.interval:
            return False
        self.refresh()
        return True

    def refresh(self) -> None:
        """Measures every module now and sets the decays, from the next step on. Collective."""
        self._pending = None
        started = time.perf_counter()
        self._take(self._measurer.measure())
        self._last_refresh_step = self._step + 1 if self._step else 0
        self.last_refresh_seconds = time.perf_counter() - started

    def _spread(self) -> bool:
        """One step of a spread refresh: takes the Grams, solves a share, or sets the decays.

        True where they were set.
        """
        started = time.perf_counter()
        if (self._step + 1) % self.config.interval == 0:
            self._pending = self._measurer.take()
            self._apply_step = self._step + 1 + self.config.spread
            self._pending_seconds = 0.0
        elif self._pending is not None:
            left = self._apply_step - self._step
            if left > 1:
                if isinstance(self._pending, SpreadRefresh):
                    self._pending.advance(left)
            else:
                self._take(self._measurer.escalated(self._finish()))
                self._last_refresh_step = self._apply_step
                self._pending = None
        self._pending_seconds += time.perf_counter() - started
        if self._pending is None and self._last_refresh_step == self._step + 1:
            self.last_refresh_seconds = self._pending_seconds
            return True
        return False

    def _finish(self) -> dict[str, Estimate]:
        """The estimates of the refresh under way. Collective where they are not known yet."""
        if isinstance(self._pending, SpreadRefresh):
            self._pending = self._pending.finish()
        assert self._pending is not None
        return self._pending

    def _take(self, estimates: dict[str, Estimate]) -> None:
        self._estimates = estimates
        self._mapped = ema(self._mapped, self.alphas, self.config.ema)
        self._set(assign(self._mapped, self._fragments.base, self._sizes, self.config))

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, keyed by weight name: fits any world size and any ZeRO stage.

        Collective while a spread refresh is under way: its solves are finished early, and set at
            the same step as without.
        """
        state: dict[str, Any] = {
            "version": _STATE_VERSION,
            "step": self._step,
            "last_refresh_step": self._last_refresh_step,
            "modules": {
                name: {
                    **_numbers(e),
                    "weight_decay": self._weight_decays[name],
                    "mapped_alpha": self._mapped[name],
                }
                for name, e in self._estimates.items()
            },
        }
        # though nothing is pending: torch's DCP loads the keys alone that the loading side has
        if self.config.spread:
            pending = self._finish() if self._pending is not None else self._estimates
            apply_step = self._apply_step if self._pending is not None else 0
            state["pending"] = {
                "apply_step": apply_step,
                "modules": {name: _numbers(e) for name, e in pending.items()},
            }
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on with the saved decays. Collective: the ranks check that they loaded the same.

        Raises:
            ValueError: the state is of another version or another model's.
            RuntimeError: the ranks were given different states.
        """
        self._agree_on(state)
        if problem := self._problem(state):
            raise ValueError(problem)
        saved = state["modules"]
        # a checkpoint loaded before has put the groups' own decay back
        take_over_weight_decay(self._optimizer)
        self._step = int(state["step"])
        self._last_refresh_step = int(state["last_refresh_step"])
        self._estimates = {name: _estimate_of(saved[name]) for name in self._modules}
        self._mapped = {name: float(saved[name]["mapped_alpha"]) for name in self._modules}
        pending = state.get("pending", {"apply_step": 0})
        self._apply_step = int(pending["apply_step"]) if self.config.spread else 0
        self._pending = (
            {name: _estimate_of(pending["modules"][name]) for name in self._modules}
            if self._apply_step
            else None
        )
        self._set({name: float(saved[name]["weight_decay"]) for name in self._modules})

    def _problem(self, state: Mapping[str, Any]) -> str:
        """Why a state cannot be loaded; empty where it can."""
        if state.get("version") != _STATE_VERSION:
            return f"AlphaDecay state has version {state.get('version')}, this library reads {_STATE_VERSION}"
        saved = set(state["modules"])
        if saved == set(self._modules):
            return ""
        missing = sorted(set(self._modules) - saved)
        extra = sorted(saved - set(self._modules))
        return f"AlphaDecay state is another model's: without {missing[:3]}, with {extra[:3]}; load it into the model it was saved from"

    def _agree_on(self, state: Mapping[str, Any]) -> None:
        """Before anything is refused, so that one rank does not wait for another that has left.

        Collective.
        """
        digest = hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).digest()
        self._transport.agree(
            [float(int.from_bytes(digest[:6], "little"))],
            "the states that AlphaDecay was given to load",
        )

    def _set(self, decays: dict[str, float]) -> None:
        bad = [name for name, decay in decays.items() if not (math.isfinite(decay) and decay >= 0)]
        if bad:
            raise ValueError(
                f"decay of {bad[0]} is {decays[bad[0]]}; a decay is finite and not negative"
            )
        self._transport.agree(list(decays.values()), "AlphaDecay's weight decays")
        self._weight_decays = decays
        self._fragments.set_weight_decays(decays)


def _numbers(estimate: Estimate) -> dict[str, Any]:
    return {**asdict(estimate), "status": int(estimate.status)}


def _estimate_of(numbers: Mapping[str, Any]) -> Estimate:
    return to_estimate([float(numbers.get(field, 0.0)) for field in FIELDS])


def _config(choices: Mapping[str, Any]) -> AlphaDecayConfig:
    known = set(AlphaDecayConfig.__dataclass_fields__)
    unknown = sorted(set(choices) - known)
    if unknown:
        raise TypeError(
            f"AlphaDecay has no choice {unknown[0]!r}; it has {', '.join(sorted(known))}"
        )
    return AlphaDecayConfig(**choices)
