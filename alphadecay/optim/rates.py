"""A learning rate for each module (for LLR, arXiv 2605.22297), whatever tensors the optimizer
updates.

While a step lasts the optimizer's param groups are divided by rate: it takes its own step over
them, one launch a rate, as if every module had had a group. Of a flat tensor that holds several
modules it is given views, with views of its moments, which needs no memory; that is right where an
update is made element by element (Adam, SGD, ...). Where it is not (Muon on a fused weight), or the
optimizer keeps its own account of its groups, the tensor is copied before the step, and what the
step has done to each part is multiplied after it, w ← w₀ + r·(w₁ − w₀): right where the update is
proportional to the learning rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from alphadecay.optim.cuts import Bound

Ratios = Mapping[str, float]  # key of a cut -> multiple of its group's learning rate; else 1


class ModuleRates:
    """The learning rates of one optimizer's steps.

    Args:
        divides: its param groups may be divided while it steps.
        by_element: it updates each element from that element's gradient and moments alone.

    Attributes:
        ratios: of the next step.
    """

    def __init__(self, divides: bool, by_element: bool) -> None:
        self.ratios: Ratios = {}
        self._divides = divides
        self._by_element = by_element
        self._optimizer: torch.optim.Optimizer | None = None  # while it steps
        self._groups: list[dict[str, Any]] = []  # its own, meanwhile
        self._stood_in: list[tuple[Bound, list[Tensor]]] = []
        self._copied: list[tuple[Bound, Tensor]] = []

    def ratio(self, key: str) -> float:
        """Return a cut's multiple of its group's learning rate."""
        return self.ratios.get(key, 1.0)

    def takes_views(self, bound: Bound) -> bool:
        """Return whether the tensor can be stepped as runs of elements, each by itself."""
        return self._divides and self._by_element and bound.is_in_runs

    @torch.no_grad()
    def begin(self, optimizer: torch.optim.Optimizer, bounds: Mapping[int, Bound]) -> None:
        """Have the step that begins run at each module's rate.

        Args:
            optimizer: about to step, its gradients there.
            bounds: what it updates, by id.
        """
        self.drop()
        if all(ratio == 1.0 for ratio in self.ratios.values()):
            return
        self._optimizer = optimizer
        self._groups = optimizer.param_groups
        divided = [
            part for group in self._groups for part in self._divided(group, bounds, optimizer.state)
        ]
        if self._divides:
            optimizer.param_groups = divided

    @torch.no_grad()
    def finish(self) -> None:
        """Give the optimizer its groups and its state back, the step done."""
        if self._optimizer is None:
            return
        for bound, parts in self._stood_in:
            _take_state_back(self._optimizer.state, bound, parts)
        self._stood_in.clear()
        _scale(self._copied, self.ratio)
        self.drop()

    def drop(self) -> None:
        """Give it its groups back, and forget a step that has failed."""
        if self._optimizer is not None:
            self._optimizer.param_groups = self._groups
            for _, parts in self._stood_in:
                for part in parts:
                    self._optimizer.state.pop(part, None)
        self._optimizer = None
        self._groups = []
        self._stood_in.clear()
        self._copied.clear()

    def _divided(
        self, group: dict[str, Any], bounds: Mapping[int, Bound], state: Any
    ) -> Iterator[dict[str, Any]]:
        """Yield one group a rate; DTensors apart, which torch does not mix with others."""
        by_rate: dict[tuple[float, bool], list[Tensor]] = {}
        for tensor in group["params"]:
            bound = bounds.get(id(tensor))
            if bound is None or tensor.grad is None:
                continue
            for ratio, part in self._parts(bound, state):
                by_rate.setdefault((ratio, hasattr(part, "_local_tensor")), []).append(part)
        for (ratio, _), parts in by_rate.items():
            yield {**group, "params": parts, "lr": group["lr"] * ratio}

    def _parts(self, bound: Bound, state: Any) -> Iterator[tuple[float, Tensor]]:
        """Yield what is stepped of a tensor, with its ratio."""
        ratios = {self.ratio(cut.key) for cut in bound.cuts} or {1.0}
        if self._divides and len(ratios) == 1:
            yield ratios.pop(), bound.tensor
        elif self.takes_views(bound):
            parts = _stand_ins(bound, state)
            self._stood_in.append((bound, parts))
            yield from zip((self.ratio(cut.key) for cut in bound.cuts), parts, strict=True)
        else:
            if ratios != {1.0}:
                self._copied.append((bound, bound.local(bound.tensor).clone()))
            yield 1.0, bound.tensor


def _stand_ins(bound: Bound, state: Any) -> list[Tensor]:
    """Return one parameter a cut, which shares its memory, gradient and moments with the tensor."""
    own = dict(state.get(bound.tensor, {}))
    shared = {key: bound.views(value) for key, value in own.items() if _is_alike(value, bound)}
    parts = []
    views = zip(bound.views(bound.tensor), bound.views(bound.tensor.grad), strict=True)
    for index, (weight, gradient) in enumerate(views):
        part = weight.detach()
        part.grad = gradient.detach()
        parts.append(part)
        if own:
            state[part] = {
                key: shared[key][index] if key in shared else _copy(value)
                for key, value in own.items()
            }
    return parts


def _take_state_back(state: Any, bound: Bound, parts: Sequence[Tensor]) -> None:
    """Give the tensor the state of its stand-ins: counts of steps, and moments made in this one."""
    own = state[bound.tensor]
    theirs = [state.pop(part, {}) for part in parts]
    for key, value in theirs[0].items():
        if not isinstance(value, Tensor) or value.shape != parts[0].shape:
            own[key] = value
        elif not _is_alike(own.get(key), bound):  # else it was written through views
            own[key] = torch.zeros_like(bound.tensor)
            for view, each in zip(bound.views(own[key]), theirs, strict=True):
                view.copy_(each[key])


def _is_alike(value: Any, bound: Bound) -> bool:
    """Return whether a piece of state has a number for each element, as moments have."""
    return isinstance(value, Tensor) and value.dim() > 0 and value.shape == bound.tensor.shape


def _copy(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _scale(copied: Sequence[tuple[Bound, Tensor]], ratio: Callable[[str], float]) -> None:
    """Multiply what the step has done to each part: w ← w₁ + (1 − r)·(w₀ − w₁)."""
    olds: dict[Any, list[Tensor]] = {}
    news: dict[Any, list[Tensor]] = {}
    factors: dict[Any, list[float]] = {}
    for bound, before in copied:
        views = zip(bound.cuts, bound.cut_up(before), bound.views(bound.tensor), strict=True)
        for cut, old, new in views:
            if ratio(cut.key) != 1.0:
                kind = (new.device, new.dtype, new.is_contiguous())  # as torch batches them
                olds.setdefault(kind, []).append(old)
                news.setdefault(kind, []).append(new)
                factors.setdefault(kind, []).append(1.0 - ratio(cut.key))
    for kind, some in olds.items():
        torch._foreach_sub_(some, news[kind])
        torch._foreach_mul_(some, factors[kind])
        torch._foreach_add_(news[kind], some)
