"""Grams that are solved over several steps, in shares or in a thread beside the training."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import nn

from alphadecay.sharding.replicated import Replicated
from alphadecay.spectral import EstimateRow, Gram, estimate_from_gram, pl_alpha_hill, take_gram
from alphadecay.spread import SpreadRefresh, SpreadSchedule


def small() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(24, 40), nn.Linear(40, 32), nn.Linear(32, 48))


def taken(
    solve: Callable[[Gram], object] = estimate_from_gram, kind: type[SpreadRefresh] = SpreadRefresh
) -> SpreadRefresh:
    """The Grams of a small model, in one process; its estimates are the rows."""
    sharding = Replicated(torch.device("cpu"), None)

    def share(rows: Mapping[str, EstimateRow]) -> dict[str, EstimateRow]:
        sharding.share(torch.zeros(1, 1, dtype=torch.float64))
        return dict(rows)

    grams = {str(i): take_gram(layer.weight) for i, layer in enumerate(small())}
    return kind(grams, solve, sharding.attempt, share)  # type: ignore[arg-type]


def test_a_share_of_the_grams_is_solved_each_step() -> None:
    pending = taken()
    assert [len(pending._grams), pending.advance(3), len(pending._grams)] == [3, None, 2]
    pending.advance(2)
    assert len(pending._grams) == 1 and len(pending._rows) == 2
    assert set(pending.finish()) == {"0", "1", "2"}


class Beside(SpreadRefresh):
    """Solves in its thread on a CPU, without a stream."""

    def _start(self) -> None:
        self._submit(lambda gram: self._solve(gram))


def beside(solve: Callable[[Gram], object]) -> SpreadRefresh:
    pending = taken(solve, Beside)
    pending._start()
    return pending


def test_a_thread_solves_while_the_training_goes_on() -> None:
    """The thread waits for what only the main thread does after starting it."""
    trained = threading.Event()
    solved_by: set[str] = set()

    def solve(gram: Gram) -> object:
        assert trained.wait(timeout=60)
        solved_by.add(threading.current_thread().name)
        return estimate_from_gram(gram)

    pending = beside(solve)
    pending.advance(2)  # leaves what the thread has to it
    trained.set()
    rows = pending.finish()
    assert len(rows) == 3
    assert all(name.startswith("alphadecay-spread") for name in solved_by)
    for index, layer in enumerate(small()):
        assert float(rows[str(index)].alpha) == pytest.approx(  # type: ignore[union-attr]
            pl_alpha_hill(layer.weight), rel=1e-4
        )


def test_an_error_in_the_thread_reaches_the_step_that_finishes() -> None:
    def solve(gram: Gram) -> object:
        raise torch.OutOfMemoryError("out of memory")

    said = "rank 0 could not measure 0: OutOfMemoryError: out of memory"
    with pytest.raises(RuntimeError, match=said) as raised:
        beside(solve).finish()
    assert isinstance(raised.value.__cause__, torch.OutOfMemoryError)


def test_a_refresh_that_is_dropped_solves_no_more() -> None:
    begun = threading.Event()
    leave = threading.Event()
    solved: list[int] = []

    def solve(gram: Gram) -> object:
        begun.set()
        assert leave.wait(timeout=60)
        solved.append(gram.matrix_KK.shape[-1])
        return estimate_from_gram(gram)

    pending = beside(solve)
    assert begun.wait(timeout=60)
    pending.close()
    leave.set()
    assert pending._thread is not None
    pending._thread.shutdown(wait=True)
    assert len(solved) == 1


def test_a_schedule_applies_at_its_step_and_solves_before() -> None:
    schedule = SpreadSchedule()
    assert not schedule.advance(3) and not schedule.solving
    work = taken()
    schedule.begin(work, apply_step=8)
    assert [schedule.advance(step) for step in (5, 6)] == [False, False]
    assert len(work._grams) == 1 and schedule.solving
    assert schedule.advance(7)
    assert set(schedule.finish()) == {"0", "1", "2"} and not schedule.solving
    schedule.drop()
    assert schedule.apply_step == 0 and not schedule.advance(8)


def test_a_refresh_gives_way_to_the_next() -> None:
    closed = []
    first = taken()
    first.close = lambda: closed.append("first")  # type: ignore[method-assign]
    schedule = SpreadSchedule()
    schedule.begin(first, apply_step=8)
    schedule.begin(taken(), apply_step=12)
    assert closed == ["first"] and schedule.apply_step == 12
