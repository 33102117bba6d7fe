"""Cautious weight decay: a weight decays only where the step itself does not take it away from
zero.

x ← x − η·(u + λ·1[u·x ≥ 0]·x), elementwise (arXiv 2510.12402, Algorithm 1). The update u is what
the optimizer's step has done, −η·u = x_after − x_before, so that it need not be known how it is
made. It costs a copy of the tensors that a step updates, from before the step until after it (on a
CPU its memory stays), and waits for no device.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from alphadecay.optim.arithmetic import refuse_coarse
from alphadecay.optim.copies import Copies, chunks
from alphadecay.optim.cuts import Bound

_CHUNK = 1 << 22  # elements compared at once: what is needed beside the copy stays small
_BY_CACHE = frozenset({"cpu"})  # devices that gain by small pieces, not by large batches


class CautiousDecay:
    """The decay of one step, which waits for the step to show where it takes each weight."""

    def __init__(self) -> None:
        # (tensor, its weights before the step, lr · λ of each of its cuts)
        self._waiting: list[tuple[Bound, Tensor, Sequence[Any]]] = []
        self._copies = Copies()

    def keep(self, bound: Bound, amounts: Sequence[Any]) -> None:
        """Take a tensor as it is before the step.

        Args:
            bound: the tensor with its cuts.
            amounts: lr · λ of each cut: a number, a tensor of none or of the cut's dimensions; 0.0
                where nothing decays.

        Raises:
            ValueError: the tensor is too coarse for decay.
        """
        if any(isinstance(amount, Tensor) or amount for amount in amounts):
            refuse_coarse(bound.tensor.dtype)
            before = self._copies.take(id(bound), bound.local(bound.tensor))
            self._waiting.append((bound, before, amounts))

    def apply(self) -> None:
        """Decay what is kept, now that the step is done, and forget it."""
        batches: dict[tuple[Any, ...], tuple[list[Tensor], list[Tensor], list[Any]]] = {}
        for bound, before, amounts in self._waiting:
            cuts = zip(bound.views(bound.tensor), bound.cut_up(before), amounts, strict=True)
            if before.device.type in _BY_CACHE:
                _decay_in_cache(cuts)
                continue
            _clear_opposed(before, bound.local(bound.tensor))
            for view, old, amount in cuts:
                if isinstance(amount, Tensor) and amount.dim():
                    view.sub_(old.mul_(amount))
                elif isinstance(amount, Tensor) or amount:
                    # torch takes a batch singly where one view in it is strided
                    plain = view.is_contiguous()
                    kind = (view.device, view.dtype, plain, isinstance(amount, Tensor))
                    batch = batches.setdefault(kind, ([], [], []))
                    for entries, entry in zip(batch, (view, old, amount), strict=True):
                        entries.append(entry)
        for views, masked, factors in batches.values():
            torch._foreach_mul_(masked, factors)
            torch._foreach_sub_(views, masked)
        self.drop()

    def drop(self) -> None:
        """Forget what is kept: its step has failed."""
        self._waiting.clear()


def _decay_in_cache(cuts: Iterable[tuple[Tensor, Tensor, Any]]) -> None:
    """Decay views of the weights after a step, given those before it and lr · λ of each."""
    for view, old, amount in cuts:
        if isinstance(amount, Tensor) and amount.dim():
            for after, before, share in chunks(view, old, amount):
                after.sub_(_agreeing(before, after).mul_(share))
        elif amount:
            for after, before in chunks(view, old):
                after.addcmul_(_agreement(before, after), before, value=-float(amount))


def _agreement(before: Tensor, after: Tensor) -> Tensor:
    """Return 1 for each weight, and 0 for those that a step has taken further away from 0."""
    return (after - before).mul_(before).le_(0.0)


def _agreeing(before: Tensor, after: Tensor) -> Tensor:
    """Return the weights before a step, and 0 for those that it has taken further away from 0."""
    return _agreement(before, after).mul_(before)


def _clear_opposed(before: Tensor, after: Tensor) -> None:
    """Set each weight of before the step to 0 that the step has taken further away from 0."""
    for old, new in zip(_chunks(before), _chunks(after), strict=True):
        old.copy_(_agreeing(old, new))


def _chunks(tensor: Tensor) -> Iterator[Tensor]:
    if tensor.is_contiguous():
        yield from tensor.view(-1).split(_CHUNK)
    else:
        yield tensor
