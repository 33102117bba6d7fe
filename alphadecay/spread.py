"""Spread refreshes: the Gram matrices are taken at one step, which fixes what is measured, and
solved over the following ones; the table is shared when the last is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

from alphadecay.spectral import Estimate, EstimateRow, Gram
from alphadecay.spectral.solving import Streams
from alphadecay.state import to_estimates, to_numbers


class SpreadSchedule:
    """This keeps the spread refresh that is under way, if one is: its Grams, or its estimates where
    a saved state had them made early.

    Attributes:
        apply_step: the first step on its decays; 0 where none is under way.
        seconds: the steps' time that has gone into it.
    """

    def __init__(self) -> None:
        self.apply_step = 0
        self.seconds = 0.0
        self._work: SpreadRefresh | dict[str, Estimate] | None = None

    @property
    def solving(self) -> bool:
        """Say whether there are Grams left to solve."""
        return isinstance(self._work, SpreadRefresh)

    def begin(self, work: SpreadRefresh, apply_step: int) -> None:
        """Take a refresh up in the place of any other."""
        self.drop()
        self._work = work
        self.apply_step = apply_step

    def advance(self, step: int) -> bool:
        """Solve this step's share; True where the decays hold from the next step on."""
        if self._work is None:
            return False
        left = self.apply_step - step
        if left > 1 and isinstance(self._work, SpreadRefresh):
            self._work.advance(left)
        return left <= 1

    def finish(self) -> dict[str, Estimate]:
        """Return its estimates. Collective where they are not known yet."""
        if isinstance(self._work, SpreadRefresh):
            self._work = self._work.finish()
        assert self._work is not None
        return self._work

    def drop(self) -> None:
        """Leave what is under way."""
        if isinstance(self._work, SpreadRefresh):
            self._work.close()
        self._work = None
        self.apply_step = 0
        self.seconds = 0.0

    def state_dict(self, applied: Mapping[str, Estimate]) -> dict[str, Any]:
        """Return plain numbers; those of `applied` where nothing is under way, as torch's DCP loads
        the keys alone that the loading side has. Collective where something is.
        """
        estimates = applied if self._work is None else self.finish()
        return {"apply_step": self.apply_step, "modules": to_numbers(estimates)}

    def load_state_dict(self, state: Mapping[str, Any], names: Iterable[str]) -> None:
        """Go on with what was under way."""
        self.drop()
        self.apply_step = int(state["apply_step"])
        if self.apply_step:
            self._work = to_estimates(state["modules"], names)


class SpreadRefresh:
    """This is a refresh under way: Grams are taken and not all solved.

    On a CPU each step solves its share. On CUDA a thread solves all of them on a stream of its own,
    beside the training: an eigensolver blocks the thread that calls it.

    Args:
        grams: of the modules that this rank owns.
        solve: makes a row of a Gram.
        attempt: keeps an error of a module's until `share`, where all ranks raise it.
        share: makes everyone's estimates of this rank's rows; collective.
    """

    def __init__(
        self,
        grams: dict[str, Gram],
        solve: Callable[[Gram], EstimateRow],
        attempt: Callable[[str], AbstractContextManager[None]],
        share: Callable[[Mapping[str, EstimateRow]], dict[str, Estimate]],
    ) -> None:
        self._grams = grams
        self._solve = solve
        self._attempt = attempt
        self._share = share
        self._rows: dict[str, EstimateRow] = {}
        self._started: dict[str, Future[EstimateRow]] = {}
        self._thread: ThreadPoolExecutor | None = None
        if any(gram.matrix_KK.is_cuda for gram in grams.values()):
            self._start()

    def advance(self, steps_left: int) -> None:
        """Solve this step's share of what is left: all of it where `steps_left` is 1. Local."""
        for name in list(self._grams)[: -(-len(self._grams) // steps_left)]:
            with self._attempt(name):
                self._rows[name] = self._solve(self._grams.pop(name))

    def finish(self) -> dict[str, Estimate]:
        """Return the estimates of all modules, once what is left is solved. Collective."""
        self.advance(1)
        for name, row in self._started.items():
            with self._attempt(name):
                self._rows[name] = row.result()
        self.close()
        return self._share(self._rows)

    def close(self) -> None:
        """Solve no more; what is being solved ends by itself."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        """Hand every Gram to a thread, which waits on its stream until all are taken."""
        streams = Streams(self._grams.values())
        self._submit(partial(streams.beside, self._solve))

    def _submit(self, solve: Callable[[Gram], EstimateRow]) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="alphadecay-spread")
        for name in list(self._grams):
            self._started[name] = self._thread.submit(solve, self._grams.pop(name))
