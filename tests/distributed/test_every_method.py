"""Every decay method under every engine of the program: the ranks train as one process does with
torch alone, and under FSDP2 as under ZeRO-3. FSDP2 on two ranks: test_fsdp2_engine.py.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations

import pytest

from tests.distributed.engine_runs import (
    Trained,
    alone,
    assert_same,
    assert_weights,
    config_of,
    method,
    sharded,
)
from tests.distributed.harness import run_ranks
from train.config.decay import METHODS

# (engine, ranks, further arguments)
PLACES: dict[str, tuple[str, int, tuple[str, ...]]] = {
    **{f"zero{stage}": (f"zero{stage}", 2, ()) for stage in range(4)},
    **{f"fsdp2-{ranks}": ("fsdp2", ranks, ()) for ranks in (1, 3, 4)},
    "hsdp-2x2": ("fsdp2", 4, ("--engine.shard=2",)),
}


@cache
def expected(name: str) -> Trained:
    return alone(config_of(*method(name)))


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_every_method_is_that_of_one_process(place: str) -> None:
    engine, ranks, more = PLACES[place]
    cases = [(*method(name), *more) for name in METHODS]
    found = run_ranks(ranks, sharded, cases, (engine,))[0]
    for name, run in zip(METHODS, found, strict=True):
        assert_same(run, expected(name))
    if engine != "fsdp2":
        return
    deepspeeds = run_ranks(ranks, sharded, [method(name) for name in METHODS], ("zero3",))[0]
    for ours, theirs in zip(found, deepspeeds, strict=True):
        assert ours.losses == pytest.approx(theirs.losses, rel=1e-6)
        assert ours.decays == pytest.approx(theirs.decays, abs=1e-6)


@pytest.mark.slow
def test_the_tolerance_tells_each_method_from_each_other() -> None:
    for one, other in combinations(METHODS, 2):
        with pytest.raises(AssertionError):
            assert_weights(expected(one).weights, expected(other).weights)
            pytest.fail(f"{one} and {other} are alike", pytrace=False)
