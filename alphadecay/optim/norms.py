"""Norms that are held instead of decayed: LAWN and Hyperball, around the step of any optimizer.

Every module keeps its Frobenius norm. Both rules need sums over a whole matrix, of which a rank may
hold a part: one small all_reduce carries those of all modules, and no device is waited for.

Shapes: K modules, F sums of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from alphadecay.optim.arithmetic import inner, refuse_coarse, sum_pieces
from alphadecay.optim.copies import Copies, chunks
from alphadecay.optim.cuts import Bound
from alphadecay.sharding.base import Sharding

# (learning rate, tensors that the step updates) of every param group
Active = Sequence[tuple[Any, Iterable[Bound]]]


class NormRule(Protocol):
    """What is done around one optimizer's step."""

    def before(self, active: Active) -> None:
        """Take weights and gradients as they are before the step. Collective."""

    def after(self) -> None:
        """Correct what the step has done. Collective."""

    def drop(self) -> None:
        """Forget a step that has failed."""


class HeldNorms:
    """The norm that each module is held at, and sums over whole modules.

    Collective to make: every rank of the group does, in the same order.

    Args:
        elements: module name -> its elements in this rank's tensors.
        sizes: module name -> its elements; in the same order on every rank.
        sharding: how the ranks share the weights.

    Attributes:
        rows: module name -> its row in a table.
    """

    def __init__(
        self, elements: Mapping[str, int], sizes: Mapping[str, int], sharding: Sharding
    ) -> None:
        self.rows = {name: row for row, name in enumerate(sizes)}
        self._sharding = sharding
        here = torch.tensor([[elements[name]] for name in sizes], dtype=torch.float64)
        whole = torch.tensor([[size] for size in sizes.values()], dtype=torch.float64)
        # on how many ranks each element lies
        self._copies = sharding.share(here).cpu() / whole
        self._norms = torch.zeros(len(sizes), dtype=torch.float64)

    @property
    def norms(self) -> dict[str, float]:
        """Every module's norm, by name; 0 where none is held yet. Waits for the device."""
        return dict(zip(self.rows, self._norms.tolist(), strict=True))

    @norms.setter
    def norms(self, norms: Mapping[str, float]) -> None:
        self._norms = torch.tensor([norms[name] for name in self.rows], dtype=torch.float64)

    def total(self, parts: Iterable[tuple[int, Tensor]], fields: int) -> Tensor:
        """Return the sums of whole modules, [K, F], where the weights lie.

        Collective: every rank of the group calls this, in the same order.

        Args:
            parts: row and sums [F] of every fragment of this rank.
            fields: F.
        """
        found: dict[int, Tensor] = {}
        for row, sums in parts:
            found[row] = found[row] + sums if row in found else sums
        device = next((sums.device for sums in found.values()), self._sharding.device)
        none = torch.zeros(fields, dtype=torch.float64, device=device)
        table = torch.stack([found.get(row, none) for row in range(len(self.rows))])
        whole = self._sharding.sum_up(table, "the all_reduce of the modules' norms").to(device)
        self._copies = self._copies.to(device)
        return whole / self._copies

    def hold(self, squares: Tensor) -> Tensor:
        """Return the norm of every module, [K].

        Args:
            squares: the squared norms of now, [K], taken by modules that have no norm yet; 0 leaves
                one without.
        """
        norms = self._norms.to(squares.device)
        self._norms = torch.where(norms > 0, norms, squares.sqrt())
        return self._norms


class Lawn:
    """Holds the norms that the modules have after free training, the gradient projected (LAWN,
    arXiv 2108.05839).

    g ← g − (⟨w, g⟩ / ‖w‖²)·w before the step, so that the optimizer's moments too know no way out
    of the sphere; w ← c·w / ‖w‖ after it, c the norm at the last free step. A reduction each.

    Args:
        held: the norms, common to all optimizers of a model.

    Attributes:
        is_free: nothing is held yet.
    """

    def __init__(self, held: HeldNorms) -> None:
        self._held = held
        self._bounds: list[Bound] = []
        self.is_free = True

    def before(self, active: Active) -> None:
        self.drop()
        if self.is_free:
            return
        self._bounds = [bound for _, bounds in active for bound in bounds]
        pieces = [
            (row, weight, gradient)
            for bound in self._bounds
            for row, weight, gradient in _pieces(self._held, bound, bound.tensor.grad)
        ]
        parts = ((row, sum_pieces(_along, *pair)) for row, *pair in pieces)
        squares, along = self._held.total(parts, 2).unbind(1)
        self._held.hold(squares)
        shares = torch.where(squares > 0, along / squares, 0.0)
        for row, weight, gradient in pieces:
            share = shares[row].to(gradient.dtype)
            gradient.addcmul_(weight.to(gradient.dtype), share, value=-1.0)

    def after(self) -> None:
        if self.is_free:
            return
        pieces = [piece for bound in self._bounds for piece in _pieces(self._held, bound)]
        parts = ((row, sum_pieces(_square, weight)) for row, weight in pieces)
        (squares,) = self._held.total(parts, 1).unbind(1)
        norms = self._held.hold(squares)
        factors = torch.where(squares > 0, norms / squares.sqrt(), 1.0)
        for row, weight in pieces:
            weight.mul_(factors[row])
        self.drop()

    def drop(self) -> None:
        self._bounds = []


class Hyperball:
    """Holds the modules' first norms, and the length of every step relative to them (Hyperball,
    arXiv 2606.16899).

    W ← R·Norm(W − η·R·Norm(u)), Norm(x) = x / ‖x‖, R the norm of W before the first step and u the
    optimizer's update. As −η·u is what its step has done, u need not be known: with D = W' − W and
    s = η·R / ‖D‖ the result is R·Norm(W + s·D), whose norm follows from ‖W‖², ⟨W, D⟩ and ‖D‖²: one
    reduction. A matrix of zeros is left to the optimizer for its first step. It costs a copy of the
    modules from before the step until after it, on a CPU for good.

    Args:
        held: the norms, common to all optimizers of a model.
        scale: η is this times the group's learning rate.
    """

    def __init__(self, held: HeldNorms, scale: float) -> None:
        self._held = held
        self._scale = scale
        self._copies = Copies()
        # (tensor, its learning rate, (row, weights) of each of its fragments before the step)
        self._kept: list[tuple[Bound, Any, list[tuple[int, Tensor]]]] = []

    def before(self, active: Active) -> None:
        self.drop()
        for rate, bounds in active:
            for bound in bounds:
                pieces = enumerate(_pieces(self._held, bound))
                copies = [
                    (row, self._copies.take((id(bound), index), weight))
                    for index, (row, weight) in pieces
                ]
                self._kept.append((bound, rate, copies))

    def after(self) -> None:
        pieces = [
            (row, rate, old, new)
            for bound, rate, copies in self._kept
            for (row, old), (_, new) in zip(copies, _pieces(self._held, bound), strict=True)
        ]
        parts = ((row, sum_pieces(_of_move, old, new)) for row, _, old, new in pieces)
        total = self._held.total(parts, 3)
        rates = [0.0] * len(total)
        for row, rate, _, _ in pieces:
            rates[row] = rate * self._scale
        keep, take = self._shares(total, _vector(rates, total.device))
        for row, _, old, new in pieces:
            for before, after in chunks(old, new):
                after.mul_(take[row]).addcmul_(before, keep[row].to(before.dtype))
        self.drop()

    def drop(self) -> None:
        self._kept.clear()

    def _shares(self, total: Tensor, rates: Tensor) -> tuple[Tensor, Tensor]:
        """Return how much of W and of W' is in the result, [K] each."""
        square, along, moved = total.unbind(1)
        # a step that moves nothing, as one that only makes an optimizer's state, fixes no norm
        norms = self._held.hold(torch.where(moved > 0, square, 0.0))
        stretch = torch.where(moved > 0, rates * norms / moved.sqrt(), 0.0)
        length = (square + 2 * stretch * along + stretch.square() * moved).sqrt()
        is_held = (norms > 0) & (length > 0)
        scale = norms / length
        keep = torch.where(is_held, scale * (1 - stretch), 0.0)
        take = torch.where(is_held, scale * stretch, 1.0)
        return keep, take


def _pieces(held: HeldNorms, bound: Bound, *others: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the row of each fragment of a module, and its views of the weight and of the others.

    Raises:
        ValueError: the weights are too coarse to hold a norm.
    """
    views = zip(*(bound.views(each) for each in (bound.tensor, *others)), strict=True)
    for cut, (weight, *rest) in zip(bound.cuts, views, strict=True):
        if cut.key in held.rows:
            refuse_coarse(weight.dtype)
            yield held.rows[cut.key], weight, *rest


def _square(weight: Tensor) -> list[Tensor]:
    return [inner(weight, weight)]


def _along(weight: Tensor, gradient: Tensor) -> list[Tensor]:
    return [inner(weight, weight), inner(weight, gradient)]


def _of_move(old: Tensor, new: Tensor) -> list[Tensor]:
    move = new - old
    return [inner(old, old), inner(old, move), inner(move, move)]


def _vector(values: Sequence[Any], device: torch.device) -> Tensor:
    """Return numbers, or tensors of none dimension, as one vector, without waiting."""
    if any(isinstance(value, Tensor) for value in values):
        every = [torch.as_tensor(value, dtype=torch.float64, device=device) for value in values]
        return torch.stack(every)
    return torch.tensor(values, dtype=torch.float64).to(device, non_blocking=True)
