"""A run ends early enough for its checkpoint; time here is a number."""

import time

import pytest

from train.loop.stopping.budget import SAFETY, Budget, process_start


class Clock:
    def __init__(self):
        self.time = 1000.0

    def __call__(self):
        return self.time


def run(budget, clock, step, save=0.0, evaluation=0.0, every=10**9):
    """Steps until told to stop, asking where the loop asks; then the save.

    The time at which it is written.
    """
    for number in range(1, 10**6):
        with budget.timed("step"):
            clock.time += step
        if budget.spent():
            break
        if number % every == 0:
            with budget.timed("evaluation"):
                clock.time += evaluation
            if budget.spent():
                break
    with budget.timed("save"):
        clock.time += save
    return clock.time - 1000.0


@pytest.mark.parametrize(
    ("step", "save", "evaluation", "every"),
    [(1, 60, 0, 10**9), (1, 5, 100, 7), (30, 300, 40, 3), (0.1, 0, 0, 5)],
)
def test_the_checkpoint_is_written_in_time_and_not_much_too_early(step, save, evaluation, every):
    clock = Clock()
    budget = Budget(1.0, 1000.0, clock, {"save": save})
    budget.load_state_dict({"evaluation": evaluation})  # from an earlier start
    ended = run(budget, clock, step, save, evaluation, every)
    longest = max(step, save, evaluation)
    assert 3600 - SAFETY * (longest + save) - longest - save <= ended <= 3600


def test_a_first_checkpoint_gets_a_share_of_the_budget():
    clock = Clock()
    assert run(Budget(1.0, 1000.0, clock), clock, step=1.0, save=170.0) <= 3600


def test_no_budget_never_ends():
    assert not Budget(0.0, start=0.0).spent()


def test_time_counts_from_the_start_of_the_process():
    assert 0 < time.time() - process_start() < 24 * 3600
    assert Budget(1e-9).spent()


def test_the_longest_is_kept():
    budget = Budget(1.0, 0.0, Clock(), {"save": 3.0})
    budget.load_state_dict({"save": 2.0, "step": 1.0})
    assert budget.longest == {"save": 3.0, "step": 1.0}
