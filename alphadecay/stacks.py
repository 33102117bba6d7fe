"""Grams that wait on their owner for others of their side, to be solved together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from alphadecay.gram_solvers import GramSolver
from alphadecay.spectral import EstimateRow, Gram


class Stacks:
    """This gathers Grams by side and keeps the rows of those that were solved.

    Args:
        solver: says how many of a side to hold, and solves them.
        attempt: keeps an error of a module's until it can be raised on all ranks.
    """

    def __init__(
        self,
        solver: GramSolver,
        attempt: Callable[[str], AbstractContextManager[None]],
    ) -> None:
        self._solver = solver
        self._attempt = attempt
        self._waiting: dict[int, dict[str, Gram]] = {}
        self._rows: dict[str, EstimateRow] = {}

    def add(self, name: str, gram: Gram) -> None:
        """Take a module's Gram; solve those of its side once there are enough."""
        waiting = self._waiting.setdefault(gram.side, {})
        waiting[name] = gram
        if len(waiting) >= self._solver.together(gram.side):
            self._solve(gram.side)

    def finish(self) -> dict[str, EstimateRow]:
        """Return the rows of all modules, by name, once what is left is solved."""
        for side in list(self._waiting):
            self._solve(side)
        return self._rows

    def _solve(self, side: int) -> None:
        waiting = self._waiting.pop(side)
        names = list(waiting)
        with self._attempt(" or ".join(names)):
            rows = self._solver.rows(list(waiting.values()))
            self._rows.update(zip(names, rows, strict=True))
