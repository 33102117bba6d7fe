"""Ties modules to the tensors that optimizers update, and hooks the optimizers."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

from torch import nn

from alphadecay.config import Towards
from alphadecay.modules import Places, WeightModule, bare_name, exempt_parameters
from alphadecay.optim.belonging import refuse_strangers
from alphadecay.optim.decay_kind import (
    is_decoupled,
    keep_starts,
    make_cautious,
    refuse_own_rate,
)
from alphadecay.optim.fragments import Fragments
from alphadecay.optim.gradient_guard import forget_dry_run, guard_stage0
from alphadecay.optim.hooks import StepHook
from alphadecay.optim.rate_kind import rates_for
from alphadecay.optim.wrapped import bare_optimizers, refuse_no_decay
from alphadecay.sharding.detect import Target
from alphadecay.state import give_back_base

_LOG = logging.getLogger("alphadecay")
# (hook, who made it) of every optimizer that is decayed
_LIVE: weakref.WeakKeyDictionary[StepHook, weakref.ref[Attachment]] = weakref.WeakKeyDictionary()
_IDLE = 32  # calls without a step, after which it is asked what is trained
_TOLERATED = 1  # changes of the weights that no optimizer step explains: loading them is one


class Attachment:
    """Every optimizer of a model, hooked: each module decays by its ratio of its group's own decay.

    Args:
        target: what `detect` found; an engine brings its own optimizer.
        optimizer: what the user gave beside it: an optimizer, a wrapper of one, or several.
        modules: the modules, disjoint; their ratios are 1 at first.
        published: True where norm gains and biases decay as well.
        decoupled: whether the optimizers shrink weights, where that is not to be found out.
        cautious: decay after each step, and only where the step does not oppose it.
        towards: "zero", or "start": what the optimizers' tensors hold now.
        needs_decay: refuse optimizers that decay nothing.
        ends: embeddings and output head, where each module has a learning rate of its own too; None
            leaves the rates to the groups.

    Attributes:
        optimizers: those whose step() updates the weights.
        fragments: the modules' places in each optimizer, in the same order.
        modules: as given.

    Raises:
        ValueError: an optimizer whose decay cannot be taken over; the message says what to do.
    """

    def __init__(
        self,
        target: Target,
        optimizer: Any,
        modules: Sequence[WeightModule],
        *,
        published: bool = False,
        decoupled: bool | None = None,
        cautious: bool = False,
        towards: Towards = "zero",
        needs_decay: bool = True,
        ends: Collection[nn.Parameter] | None = None,
    ) -> None:
        engine = target.engine
        self._engine = engine
        self.optimizers = bare_optimizers(engine, optimizer)
        if needs_decay:
            refuse_no_decay(self.optimizers)
        self.modules = tuple(modules)
        self._places = Places(target.model, modules)
        exempt = [] if published else exempt_parameters(target.model)
        self.fragments = [
            Fragments(modules, target.sharding.spans(each), exempt, ends or ())
            for each in self.optimizers
        ]
        _refuse_second(self.fragments)
        refuse_strangers(self.fragments, target.model, modules)
        _refuse_second_map(self.fragments, target.model)
        for each, fragments in zip(self.optimizers, self.fragments, strict=True):
            refuse_own_rate(each)
            fragments.refuse_coarse_weights(each.param_groups)
        kinds = [is_decoupled(each) if decoupled is None else decoupled for each in self.optimizers]
        if towards == "start":
            keep_starts(self.optimizers, self.fragments, kinds, cautious)
        if cautious:
            make_cautious(self.optimizers, self.fragments, kinds)
        for each, fragments in zip(self.optimizers, self.fragments, strict=True):
            fragments.rates = None if ends is None else rates_for(each, fragments)
        if engine is not None:
            forget_dry_run(self.optimizers[0])
        parts = zip(self.optimizers, self.fragments, kinds, strict=True)
        self._hooks = [StepHook(each, fragments, kind) for each, fragments, kind in parts]
        self._unguard = _nothing
        self._is_removed = False
        if engine is not None:
            self._unguard = guard_stage0(engine, self.optimizers[0])
        _LIVE.update(dict.fromkeys(self._hooks, weakref.ref(self)))
        self.restart()

    def __reduce__(self) -> NoReturn:
        """Refuse copies: they would hook nothing, and report decays that nobody applies."""
        raise TypeError(
            "AlphaDecay hooks the optimizers it was made for, and cannot be copied or pickled: "
            "keep its state_dict(), or make one of the copied model and optimizer and load it there"
        )

    @property
    def base(self) -> dict[str, float]:
        """Every module's own group's weight decay, now."""
        found = {}
        for optimizer, hook in zip(self.optimizers, self._hooks, strict=True):
            for name, group in hook.fragments.groups_of(optimizer.param_groups).items():
                found[name] = hook.weight_decay(group)
        return found

    def set_ratios(self, ratios: Mapping[str, float]) -> None:
        """Take every module's ratio; it holds from the next step on.

        Raises:
            RuntimeError: `remove` was called.
        """
        self._refuse_removed()
        for fragments in self.fragments:
            fragments.set_ratios(ratios)

    def set_rates(self, ratios: Mapping[str, float]) -> None:
        """Take the learning rates of the next step, as multiples of their groups'."""
        for fragments in self.fragments:
            if fragments.rates is not None:
                fragments.rates.ratios = ratios

    def give_back_base(self) -> None:
        """Put the groups' own decay back after a checkpoint of version 0.1 was loaded."""
        for optimizer in self.optimizers:
            give_back_base(optimizer.param_groups)

    def remove(self) -> None:
        """Give the optimizers back as they were: each group decays by itself again."""
        for hook in self._hooks:
            hook.remove()
            _LIVE.pop(hook, None)
        self._unguard()
        self._unguard = _nothing
        self._is_removed = True

    def note_measured(self) -> None:
        """Take that the weights were measured just now."""
        for hook in self._hooks:
            hook.note_measured(True)

    def restart(self) -> None:
        """Count steps from here on, with ratios that are not of these weights."""
        for hook in self._hooks:
            hook.note_measured(False)
        self._seen = self._counts()
        self._versions = self._weights_versions()
        self._unexplained = [0] * len(self._hooks)
        self._idle = 0

    @property
    def step(self) -> int:
        """The optimizer steps that an engine counts; 0 where there is none to count them."""
        return int(self._engine.global_steps) if self._engine is not None else 0

    def steps_after(self, step: int) -> int:
        """Return the optimizer steps since `step`; an engine counts those it skips too.

        Raises:
            RuntimeError: steps went by that were not decayed, or the weights are others by now.
        """
        if self._engine is None:
            return self._new_steps()
        taken = self.step - step
        if taken and self._engine.was_step_applied():
            self._refuse_undecayed()
        return taken

    def _new_steps(self) -> int:
        """Return how many steps the optimizers have taken since the last call, without those that
        only made an optimizer's state.

        Raises:
            RuntimeError: steps went by that were not decayed, or the weights are others by now.
        """
        self._refuse_removed()
        self._places.refuse_replaced()
        counts = self._counts()
        new = [
            [after - before for after, before in zip(now, then, strict=True)]
            for now, then in zip(counts, self._seen, strict=True)
        ]
        versions = self._weights_versions()
        for index, (steps, decayed, _) in enumerate(new):
            moved = versions[index] != self._versions[index]
            self._unexplained[index] = 0 if steps else self._unexplained[index] + moved
            if self._unexplained[index] > _TOLERATED or steps > decayed:
                raise RuntimeError(
                    "weights were stepped, and the hooks of "
                    f"{type(self.optimizers[index]).__name__} have not decayed them: another "
                    "optimizer updates them, or the hooks are gone; give AlphaDecay the optimizer "
                    "whose step() you call. Where your loop itself writes to the weights, call "
                    "decay.step() after optimizer.step() alone"
                )
        self._seen = counts
        self._versions = versions
        taken = max(steps - blank for steps, _, blank in new)
        self._idle = 0 if taken else self._idle + 1
        if self._idle == _IDLE and not self._places.are_trained:
            _LOG.warning(
                "AlphaDecay: %d calls of decay.step() have seen no step, and the model trains none "
                "of its weights any more, as where adapters were added or merged: call remove(), "
                "and make AlphaDecay again of the model and its optimizer as they are",
                _IDLE,
            )
        return taken

    def _refuse_undecayed(self) -> None:
        """Refuse an engine's step that the optimizer's hooks have not seen.

        Raises:
            RuntimeError: there was one.
        """
        self._refuse_removed()
        counts = self._counts()
        if counts == self._seen:
            raise RuntimeError(
                f"the engine took a step without {type(self.optimizers[0]).__name__}.step(), so "
                "that nothing was decayed; AlphaDecay needs an engine that calls it"
            )
        self._seen = counts

    def _refuse_removed(self) -> None:
        if self._is_removed:
            raise RuntimeError(
                "remove() was called, so that nothing is decayed by module any more: leave "
                "decay.step() out from there on, or make AlphaDecay again"
            )

    def _counts(self) -> list[tuple[int, int, int]]:
        """(steps, decayed steps, blank steps) of every optimizer."""
        return [(hook.steps, hook.decayed, hook.blank) for hook in self._hooks]

    def _weights_versions(self) -> list[int]:
        return [part.version for part in self.fragments]


def _nothing() -> None:
    """Undo no guard."""


def _refuse_second(fragments: Sequence[Fragments]) -> None:
    """Refuse what another AlphaDecay has; one that nobody holds any more gives way.

    Raises:
        ValueError: another AlphaDecay decays one of the weights.
    """
    mine = {id(tensor) for part in fragments for tensor in part.tensors}
    for hook, owner in list(_LIVE.items()):
        shared = [tensor for tensor in hook.fragments.tensors if id(tensor) in mine]
        if shared and owner() is not None:
            raise ValueError(
                f"a weight of shape {list(shared[0].shape)} has an AlphaDecay already; one "
                "decays all optimizers of a model, AlphaDecay(model, [muon, adamw]): call "
                "remove() on the first before you make another"
            )
        if shared:
            hook.remove()
            _LIVE.pop(hook, None)


def _refuse_second_map(fragments: Sequence[Fragments], model: nn.Module) -> None:
    """Refuse a model of which another AlphaDecay has the rest: the decays are one map over all.

    Raises:
        ValueError: another AlphaDecay has a module among this model's trainable weights.
    """
    held = {id(parameter) for part in fragments for parameter in part.parameters}
    others = [other for owner in list(_LIVE.values()) if (other := owner()) is not None]
    taken = {id(module.parameter) for other in others for module in other.modules} - held
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) in taken:
            raise ValueError(
                f"{bare_name(name)}, in another optimizer, has an AlphaDecay already; one decays "
                "all optimizers of a model, AlphaDecay(model, [muon, adamw]), for its decays are "
                "one map over all weights: call remove() on the first before you make it"
            )
