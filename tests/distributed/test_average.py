"""The average of the weights under every engine on two ranks: its formula, swapped in and out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.distributed.engine_runs import ENGINES, STEPS, Run, config_of, whole_weights
from tests.distributed.harness import run_ranks

EMA = 0.5


def averaged(rank: int, engine: str, precision: str) -> list[dict[str, Tensor]]:
    """Weights of a run: expected average, average swapped in, before and after that."""
    # weights that move far enough for bf16 to tell them from their average
    own = (f"--optim.ema={EMA}", f"--run.precision={precision}", "--optim.eps=1e-4")
    config = config_of(*ENGINES[engine], *own)
    run = Run(config)
    expected = {name: w.double() for name, w in whole_weights(run.engine.module).items()}
    for step in range(STEPS):
        weights = run.take(range(step, step + 1)).weights
        for name, weight in weights.items():
            expected[name] = EMA * expected[name] + (1 - EMA) * weight.double()
    before = whole_weights(run.engine.module)
    with run.engine.averaged():
        found = whole_weights(run.engine.module)
    return [expected, found, before, whole_weights(run.engine.module)]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_every_rank_computes_with_the_average_and_then_with_the_weights(engine, precision):
    # An average of rounded weights, rounded: an ulp of bf16, 2^-8, beside each
    tolerance = (
        {"atol": 1e-6, "rtol": 0} if precision == "float32" else {"atol": 5e-4, "rtol": 0.01}
    )
    for expected, found, before, after in run_ranks(2, averaged, engine, precision):
        for name, average in expected.items():
            torch.testing.assert_close(found[name].double(), average, **tolerance, msg=name)
            assert not torch.equal(found[name], before[name]), name
            assert torch.equal(after[name], before[name]), name
