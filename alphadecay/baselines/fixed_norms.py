"""FixedNorms: LAWN and Hyperball, which hold the modules' norms instead of decaying them, with the
surface of AlphaDecay.

Baselines to compare with.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from alphadecay.attach import Attachment
from alphadecay.baselines.baseline import Baseline
from alphadecay.modules import WeightModule, find_head, find_modules
from alphadecay.optim.norms import HeldNorms, Hyperball, Lawn
from alphadecay.sharding.detect import detect

Rule = Literal["lawn", "hyperball"]
_STATE_VERSION = 1


class FixedNorms(Baseline):
    """Norms held instead of weight decay, used as AlphaDecay is: construct and step it on every
    rank.

    lawn: free training for `free_steps` steps, then the norms of the modules stay as they are and
        their gradients are projected on what keeps them (LAWN, arXiv 2108.05839);
    hyperball: every module keeps its first norm R, and every step is η·R long, whatever the
        optimizer's own is (arXiv 2606.16899).

    The modules do not decay. What else there is decays as its param group says; both papers decay
    nothing.

    Args:
        model: a module, a DDP wrapper, or a DeepSpeed engine; wrap first.
        optimizer: the optimizer that updates it, or several; left out with an engine.
        rule: which of them.
        free_steps: of lawn: steps before a norm is held.
        scale: of hyperball: η is this times the learning rate. The rates that the paper takes for
            matrices are several times what Adam takes for the rest.
        head: hold the output head too, as LAWN does to attenuate logits; Hyperball leaves it to the
            optimizer.
        include, exclude, splits: as for AlphaDecay.

    Raises:
        ValueError: a choice or wrapper that cannot work; the message says what to do.
    """

    last_refresh_step = 0  # nothing is measured

    def __init__(
        self,
        model: Any,
        optimizer: Any = None,
        *,
        rule: Rule,
        free_steps: int = 0,
        scale: float = 1.0,
        head: bool = False,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        splits: Mapping[str, Mapping[str, int]] | None = None,
    ) -> None:
        _check(rule, free_steps, scale)
        target = detect(model)
        self._free_steps = free_steps
        self._scale = scale
        modules = find_modules(target.model, include, exclude, splits)
        if head:
            modules += find_head(target.model, modules)
        attachment = Attachment(target, optimizer, modules, needs_decay=False)
        super().__init__(rule, _STATE_VERSION, attachment, [module.name for module in modules])
        self._attachment.set_ratios(dict.fromkeys(self._names, 0.0))
        self._held = _held_norms(self._attachment, modules, target.sharding)
        self._lawns: list[Lawn] = []
        for fragments in self._attachment.fragments:
            if rule == "lawn":
                self._lawns.append(Lawn(self._held))
                fragments.norms = self._lawns[-1]
            else:
                fragments.norms = Hyperball(self._held, scale)
        self._goes_on = False  # with norms that are held already
        self._hold()

    @property
    def weight_decays(self) -> dict[str, float]:
        """Empty: no module decays."""
        return {}

    @property
    def norms(self) -> dict[str, float]:
        """The norm that each module is held at, by weight name; 0 where none is held yet."""
        return self._held.norms

    @property
    def relative_rates(self) -> dict[str, float]:
        """What times the learning rate is a step's length over the norm, by weight name; empty
        under lawn, whose steps are the optimizer's.
        """
        return dict.fromkeys(self._names, self._scale) if self.rule == "hyperball" else {}

    def step(self) -> bool:
        """After each optimizer step. False: no decay has changed."""
        self._count_steps()
        self._hold()
        return False

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, keyed by weight name: fits any world size and any ZeRO stage."""
        return {**self._state(), "norms": self.norms}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on with the saved norms, which stay held whatever `free_steps` is now.

        Raises:
            ValueError: the state is of another version, rule or model.
        """
        self._resume(state, state.get("norms", ()))
        self._held.norms = state["norms"]
        self._goes_on = any(state["norms"].values())
        self._hold()

    def remove(self) -> None:
        """Give the optimizer back as it was: every group decays by its own weight_decay again."""
        for fragments in self._attachment.fragments:
            fragments.norms = None
        self._attachment.remove()

    def _hold(self) -> None:
        for lawn in self._lawns:
            lawn.is_free = self._step < self._free_steps and not self._goes_on


def _check(rule: str, free_steps: int, scale: float) -> None:
    if rule not in get_args(Rule) or free_steps < 0 or not (math.isfinite(scale) and scale > 0):
        raise ValueError(
            f"rule {rule!r}, free_steps {free_steps}, scale {scale}: rules are "
            f"{', '.join(get_args(Rule))}; free_steps is at least 0, scale above 0"
        )


def _held_norms(
    attachment: Attachment, modules: Sequence[WeightModule], sharding: Any
) -> HeldNorms:
    """Return the norms of the modules, wherever the optimizers hold them. Collective."""
    elements = Counter[str]()
    for fragments in attachment.fragments:
        elements.update(fragments.elements)
    return HeldNorms(elements, {m.name: math.prod(m.shape) for m in modules}, sharding)
