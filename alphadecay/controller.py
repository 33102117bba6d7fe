"""AlphaDecay, the one class a training loop meets: when to refresh, in what order, what to save."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Literal

from alphadecay.attach import Attachment
from alphadecay.config import (
    AlphaDecayConfig,
    Assign,
    Control,
    Drives,
    Method,
    Score,
    Tail,
    Towards,
)
from alphadecay.description import Description, describe, log_thawed
from alphadecay.learning_rates import LearningRates
from alphadecay.modules import choose_modules
from alphadecay.owners import Plan
from alphadecay.policy.apply import ratios_of, refuse_odd
from alphadecay.policy.controls import ema as smooth
from alphadecay.refresh import SpectralRefresh
from alphadecay.sharding.detect import detect
from alphadecay.spectral import Estimate, Status
from alphadecay.spread import SpreadSchedule
from alphadecay.state import VERSION, fingerprint, loadable, to_estimates, to_numbers


class AlphaDecay:
    """Module-wise weight decay from heavy-tailed spectra (arXiv 2506.14562); used like a
    learning-rate scheduler.

    Every `interval` steps it measures PL_Alpha_Hill of every linear weight and gives each its own
    decay, from s1 to s2 times its param group's weight_decay at each step. Constructing and
    stepping it are collective: every rank does both, in the same order.

    Args:
        model: a module, a DDP wrapper, or a DeepSpeed engine; wrap first.
        optimizer: the optimizer that updates it, or a list of all that do; left out with an engine,
            which has its own: another is refused.
        include: shell patterns of the weights to take instead of every linear weight.
        exclude: shell patterns of weights to leave at the base decay.
        splits: pattern -> {part: outputs} for fused weights whose layout is not known; with
            "repeat" among the parts where they alternate, without any to take one matrix.
        decoupled: True where the optimizer shrinks weights, False where it adds a penalty to
            gradients; None finds out.
        interval: optimizer steps between refreshes, not micro batches.
        s1: decay of the smallest alpha (heaviest tail), as a multiple of the base decay.
        s2: decay of the largest alpha (lightest tail), as a multiple of the base decay.
        tail, method, ..., lr_until: see AlphaDecayConfig, whose fields they are; drives="lr" has
            alpha set learning rates instead.

    Attributes:
        config: what was chosen.
        rates: each module's learning rate, where alpha drives it.
        last_refresh_seconds: of the last refresh, by the wall clock.

    Raises:
        ValueError: a choice, pattern, optimizer or wrapper that cannot work; the message says what
            to do.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any = None,
        *,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        splits: Mapping[str, Mapping[str, int]] | None = None,
        decoupled: bool | None = None,
        interval: int = 500,
        s1: float = 0.67,
        s2: float = 5.0,
        tail: Tail = "hill",
        method: Method = "gram",
        assign: Assign = "linear",
        score: Score = "alpha",
        compat: Literal["published"] | None = None,
        spread: int = 0,
        minimum_range: float = 0.0,
        mean_preserving: bool = False,
        ema: float = 0.0,
        control: Control | None = None,
        seed: int = 0,
        cautious: bool = False,
        towards: Towards = "zero",
        ratios: Mapping[str, float] | None = None,
        drives: Drives = "decay",
        lr_s1: float = 1.0,
        lr_s2: float = 5.0,
        lr_ends: float = 5.0,
        lr_ramp: int = 50,
        lr_until: int | None = None,
    ) -> None:
        given = locals()
        self.config = AlphaDecayConfig(**{f.name: given[f.name] for f in fields(AlphaDecayConfig)})
        target = detect(model)
        self._sharding = target.sharding
        published = self.config.published
        self._choice = choose_modules(target.model, include, exclude, splits, published)
        modules = self._choice.modules
        self._modules = {module.name: module for module in modules}
        self._sizes = {module.name: math.prod(module.shape) for module in modules}
        ends = self._choice.ends
        self._attachment = Attachment(
            target,
            optimizer,
            modules,
            published=published,
            decoupled=decoupled,
            cautious=cautious,
            towards=towards,
            needs_decay=drives != "lr",
            ends=ends.values() if self.config.drives_rates else None,
        )
        self.rates = LearningRates(self.config, self._sizes, ends, self._attachment.set_rates)
        self._spectra = SpectralRefresh(self._modules, self._sharding, self.config)
        self._step = self._attachment.step
        self._estimates: dict[str, Estimate] = {}
        self._ratios: dict[str, float] = {}
        # the alphas that the ratios come from: smoothed where ema is on
        self._mapped: dict[str, float] = {}
        self.last_refresh_seconds = 0.0
        self._spread = SpreadSchedule()
        try:
            self.refresh()
        except BaseException:
            self.remove()
            raise
        if self._sharding.rank == 0:
            self._description().log()

    def __repr__(self) -> str:
        """Return what was chosen, in a sentence."""
        when = f"every {self.config.interval} steps, last at step {self._last_refresh_step}"
        return f"AlphaDecay({self._description().summary}; refreshed {when})"

    def describe(self) -> str:
        """Return a line a weight: name, shape, alpha and decay, or why it has the base decay."""
        return str(self._description())

    @property
    def alphas(self) -> dict[str, float]:
        """PL_Alpha of every module at the last refresh, by weight name; NaN where the module has a
        status.
        """
        return {name: estimate.alpha for name, estimate in self._estimates.items()}

    @property
    def statuses(self) -> dict[str, str]:
        """Why a module keeps the base decay, by weight name."""
        return {
            name: e.status.label for name, e in self._estimates.items() if e.status is not Status.OK
        }

    @property
    def weight_decays(self) -> dict[str, float]:
        """Decay of every module at the next step, by weight name: its ratio of its group's own."""
        base = self._attachment.base
        return {name: ratio * base[name] for name, ratio in self._ratios.items()}

    @property
    def plan(self) -> Plan:
        """Which rank measures which module; `plan.describe()` says it in a line a rank."""
        return self._spectra.plan

    @property
    def last_refresh_step(self) -> int:
        """The step (1-based) that first ran on the current decays; 0 for the construction's."""
        return self._last_refresh_step

    @property
    def solving(self) -> bool:
        """True while a spread refresh has Grams left to solve: `state_dict()` is collective."""
        return self._spread.solving

    def step(self) -> bool:
        """After each optimizer step: refresh where the next step is a multiple of the interval.

        Collective at those steps. A call that no optimizer step has gone before does nothing:
        between accumulation boundaries, or after a step that was skipped.

        Returns:
            True where the decays were refreshed.

        Raises:
            RuntimeError: optimizer steps went by that were not decayed.
        """
        before = self._step
        self._step += self._attachment.steps_after(self._step)
        if self._step == before:
            return False
        self.rates.advance(self._step)
        due = (self._step + 1) // self.config.interval > (before + 1) // self.config.interval
        if self.config.spread:
            return self._spread_step(due)
        if due:
            self.refresh()
        return due

    def refresh(self) -> None:
        """Measure every module now and set the decays, from the next step on. Collective."""
        self._spread.drop()
        started = time.perf_counter()
        self._take(self._spectra.measure())
        self._attachment.note_measured()
        self._last_refresh_step = self._step + 1 if self._step else 0
        self.last_refresh_seconds = time.perf_counter() - started

    def remove(self) -> None:
        """Give the optimizer back as it was: every group decays by its own weight_decay again."""
        self._spread.drop()
        self._attachment.remove()

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers, keyed by weight name: they fit any world size and any ZeRO stage.

        Collective while a spread refresh is under way: its solves are finished early, and set at
        the same step as without.
        """
        state: dict[str, Any] = {
            "version": VERSION,
            "step": self._step,
            "last_refresh_step": self._last_refresh_step,
            "modules": to_numbers(self._estimates, ratio=self._ratios, mapped_alpha=self._mapped),
        }
        if self.config.spread:
            state["pending"] = self._spread.state_dict(self._estimates)
        if self.config.drives_rates:
            state["rates"] = self.rates.state_dict()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the saved ratios. Collective: the ranks check that they loaded the same.

        Raises:
            ValueError: the state is of another version or another model's.
            RuntimeError: the ranks were given different states.
        """
        # before anything is refused: no rank may wait for one that has left
        self._sharding.agree(fingerprint(state), "the states that AlphaDecay was given to load")
        self._attachment.give_back_base()
        state = loadable(state, self._attachment.base, self._modules)
        saved = state["modules"]
        self._attachment.restart()
        self._step = int(state["step"])
        self._last_refresh_step = int(state["last_refresh_step"])
        self._estimates = to_estimates(saved, self._modules)
        self._mapped = {name: float(saved[name]["mapped_alpha"]) for name in self._modules}
        self._spread.drop()
        if self.config.spread and "pending" in state:
            self._spread.load_state_dict(state["pending"], self._modules)
        self.rates.load_state_dict(state.get("rates"), self._mapped, self._step)
        self._set({name: float(saved[name]["ratio"]) for name in self._modules})

    def _description(self) -> Description:
        return describe(
            self._choice,
            self.alphas,
            self.statuses,
            self.weight_decays,
            exempt=not self.config.published,
            score=self.config.score,
        )

    def _spread_step(self, due: bool) -> bool:
        """Take the Grams, solve a share, or set the decays: True where they were set."""
        started = time.perf_counter()
        if due:
            self._spread.begin(self._spectra.take(), self._step + 1 + self.config.spread)
        is_applied = not due and self._spread.advance(self._step)
        if is_applied:
            self._take(self._spectra.escalated(self._spread.finish()))
            self._last_refresh_step = self._step + 1
        self._spread.seconds += time.perf_counter() - started
        if is_applied:
            self.last_refresh_seconds = self._spread.seconds
            self._spread.drop()
        return is_applied

    def _take(self, estimates: dict[str, Estimate]) -> None:
        if self._sharding.rank == 0:
            log_thawed(self._choice)
        self._estimates = estimates
        self._mapped = smooth(self._mapped, self.alphas, self.config.ema)
        self.rates.aim(self._mapped, self._step)
        self._set(ratios_of(self._mapped, self._sizes, self.config))

    def _set(self, ratios: dict[str, float]) -> None:
        refuse_odd(ratios)
        values = [*ratios.values(), *self.rates.targets.values()]
        self._sharding.agree(values, "AlphaDecay's weight decays")
        self._attachment.set_ratios(ratios)
        self._ratios = ratios
