"""Grams that wait on their owner for others of their side, to be solved together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from alphadecay.spectral import EstimateRow, Gram


class Stacks:
    """This gathers Grams by side and keeps the rows of those that were solved.

    Args:
        together: how many Grams of a side to hold before they are solved.
        solve: makes the rows of Grams of one side, in their order.
        attempt: keeps an error of a module's until it can be raised on all ranks.
    """

    def __init__(
        self,
        together: Callable[[int], int],
        solve: Callable[[Sequence[Gram]], list[EstimateRow]],
        attempt: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._together = together
        self._solve = solve
        self._attempt = attempt
        self._waiting: dict[int, dict[str, Gram]] = {}
        self._rows: dict[str, EstimateRow] = {}

    def add(self, name: str, gram: Gram) -> None:
        """Take a module's Gram; solve those of its side once there are enough."""
        side = gram.matrix_KK.shape[-1]
        waiting = self._waiting.setdefault(side, {})
        waiting[name] = gram
        if len(waiting) >= self._together(side):
            self._solve_side(side)

    def finish(self) -> dict[str, EstimateRow]:
        """Return the rows of all modules, by name, once what is left is solved."""
        for side in list(self._waiting):
            self._solve_side(side)
        return self._rows

    def _solve_side(self, side: int) -> None:
        waiting = self._waiting.pop(side)
        names = list(waiting)
        others = f" or one of {len(names) - 1} of its side" if len(names) > 1 else ""
        with self._attempt(names[0] + others):
            self._rows.update(zip(names, self._solve(list(waiting.values())), strict=True))
