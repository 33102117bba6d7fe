"""Ternary weights under the program's engines: two ranks train as one process does."""

from __future__ import annotations

from functools import cache

import pytest

from tests.distributed.engine_runs import Trained, alone, config_of, sharded
from tests.distributed.harness import run_ranks

ENGINES = ("zero3", "fsdp2")
ARGUMENTS = (
    "--model.quantize=b158-median",
    "--model.activation_checkpointing=true",
    "--optim.eps=1e-4",
)
# A sum in another order may turn an input by one of its 256 levels, and what comes of that is no
# rounding error any more; without ternary weights the loss differs by some 0.1.
LOSS = 1e-3


@cache
def expected(*arguments: str) -> Trained:
    return alone(config_of(*arguments))


def test_two_ranks_train_as_one_process() -> None:
    oracle = expected(*ARGUMENTS)
    for run in run_ranks(2, sharded, [ARGUMENTS], ENGINES)[0]:
        assert run.losses == pytest.approx(oracle.losses, abs=LOSS)
        assert run.decays == pytest.approx(oracle.decays, abs=1e-3)
        assert run.norm == pytest.approx(oracle.norm, rel=1e-2)


def test_the_tolerance_tells_it_from_plain_weights() -> None:
    pairs = zip(expected(*ARGUMENTS).losses, expected().losses, strict=True)
    assert max(abs(one - other) for one, other in pairs) > 10 * LOSS
