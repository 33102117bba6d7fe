"""What changes a step's arithmetic, under every engine of the program: two ranks train as one
process does, whose steps the unit tests compare with the formulas.
"""

from __future__ import annotations

from functools import cache

import pytest

from tests.distributed.engine_runs import (
    ENGINES,
    Trained,
    alone,
    assert_same,
    assert_weights,
    config_of,
    sharded,
)
from tests.distributed.harness import run_ranks

CASES = {
    "cautious": ("--decay.cautious=true",),
    "cautious by element": ("--decay.cautious=true", "--decay.method=adadecay_parameters"),
}
WITHOUT = {
    "cautious": (),
    "cautious by element": ("--decay.method=adadecay_parameters",),
}


@cache
def expected(case: str) -> Trained:
    return alone(config_of(*CASES[case]))


@pytest.mark.parametrize("engine", ENGINES)
def test_two_ranks_equal_one_process(engine: str) -> None:
    found = run_ranks(2, sharded, list(CASES.values()), (engine,))[0]
    for case, run in zip(CASES, found, strict=True):
        assert_same(run, expected(case))


@pytest.mark.parametrize("case", CASES)
def test_the_tolerance_tells_it_from_what_it_changes(case: str) -> None:
    with pytest.raises(AssertionError):
        assert_weights(alone(config_of(*WITHOUT[case])).weights, expected(case).weights)
