"""What changes a step's arithmetic, under every engine of the program: two ranks train as one
process does, whose steps the unit tests compare with the formulas.
"""

from __future__ import annotations

from functools import cache
from itertools import chain
from pathlib import Path

import pytest
import torch

from tests.distributed.engine_runs import (
    ENGINES,
    STEPS,
    Run,
    Trained,
    alone,
    assert_same,
    assert_weights,
    config_of,
    sharded,
)
from tests.distributed.harness import run_ranks

ONE_CYCLE = (
    "--optim.schedule=one_cycle",
    "--optim.warmup_steps=2",
    "--optim.min_lr_ratio=0.1",
    "--optim.cycle_momentum=0.5",
)
RATES = ("--decay.lr_ramp=3", "--optim.lr=0.003")
LAWN = ("--decay.method=lawn", "--decay.free_share=0.34")  # 2 of 6 steps
HYPERBALL = ("--decay.method=hyperball", "--decay.hyperball_scale=3")
# a step that float32 weights do not round: its direction is all that Hyperball takes
FAST = ("--optim.name=sgd", "--optim.lr=0.3")
SGDW = ("--optim.name=sgdw", "--decay.cautious=true", "--decay.schedule=cosine")
BOTH = (*RATES, "--decay.drives=both", "--decay.cautious=true")
CASES = {
    "cautious": ("--decay.cautious=true",),
    "towards the start": ("--decay.towards=start",),
    "cautious by element": ("--decay.cautious=true", "--decay.method=adadecay_parameters"),
    "sgd": ("--optim.name=sgd",),
    "sgdw": ("--optim.name=sgdw",),
    "sgdw by itself": (
        "--optim.name=sgdw",
        "--decay.method=uniform",
        "--decay.compat=published",  # no hook: the optimizer's own decay
    ),
    "sgdw, cautious": ("--optim.name=sgdw", "--decay.cautious=true"),
    "one cycle and z-loss": (*ONE_CYCLE, "--loss.z_loss=0.01"),
    "rates": (*RATES, "--decay.drives=lr"),
    "rates of adam": (*RATES, "--decay.drives=lr", "--optim.name=adam"),
    "rates, sgdw": (*RATES, "--decay.drives=both", "--optim.name=sgdw"),
    "rates and decays, cautious": (*RATES, "--decay.drives=both", "--decay.cautious=true"),
    "lawn": LAWN,
    "hyperball": HYPERBALL,
    "hyperball, sgd": ("--decay.method=hyperball", "--decay.hyperball_scale=0.1", *FAST),
}
WITHOUT = {
    "cautious": (),
    "towards the start": (),
    "cautious by element": ("--decay.method=adadecay_parameters",),
    "sgd": ("--optim.name=sgdw",),
    "sgdw": ("--optim.name=sgdw", "--decay.method=none"),
    "sgdw by itself": ("--optim.name=sgdw", "--decay.method=none"),
    "sgdw, cautious": ("--optim.name=sgdw",),
    "one cycle and z-loss": ONE_CYCLE,
    "rates": RATES,
    "rates of adam": (*RATES, "--optim.name=adam"),
    "rates, sgdw": (*RATES, "--optim.name=sgdw"),
    "rates and decays, cautious": (*RATES, "--decay.cautious=true"),
    "lawn": ("--decay.method=none",),
    "hyperball": ("--decay.method=none",),
    "hyperball, sgd": ("--decay.method=none", *FAST),
}


@cache
def expected(case: str) -> Trained:
    return alone(config_of(*CASES[case]))


@pytest.mark.parametrize("engine", ENGINES)
def test_two_ranks_equal_one_process(engine: str) -> None:
    found = run_ranks(2, sharded, list(CASES.values()), (engine,))[0]
    for case, run in zip(CASES, found, strict=True):
        assert_same(run, expected(case))


def cut(
    rank: int, engine: str, folder: str, cases: list[tuple[str, ...]]
) -> list[tuple[Trained, Trained]]:
    """Runs in one go, and the same ones saved and loaded half-way."""
    found = []
    for number, own in enumerate(cases):
        config = config_of(*ENGINES[engine], *own)
        whole = Run(config).take(range(STEPS))
        first = Run(config)
        first.take(range(STEPS // 2))
        place = Path(folder) / str(number) / "step-00000003"
        first.save(place)
        second = Run(config)
        second.load(place)
        found.append((whole, second.take(range(STEPS // 2, STEPS))))
    return found


@pytest.mark.parametrize(
    ("engine", "cases"),
    [
        ("fsdp2", [SGDW, BOTH, LAWN, HYPERBALL]),
        ("zero0", [SGDW, BOTH]),
        ("zero2", [SGDW, BOTH, HYPERBALL]),
        ("zero3", [SGDW, BOTH, LAWN]),
    ],
)
def test_a_run_that_was_cut_goes_on_bit_for_bit(
    engine: str, cases: list[tuple[str, ...]], tmp_path: Path
) -> None:
    for whole, resumed in chain(*run_ranks(2, cut, engine, str(tmp_path), cases)):
        assert resumed.losses == whole.losses[STEPS // 2 :]
        assert resumed.decays == whole.decays
        assert all(torch.equal(resumed.weights[name], w) for name, w in whole.weights.items())


@pytest.mark.parametrize("case", CASES)
def test_the_tolerance_tells_it_from_what_it_changes(case: str) -> None:
    with pytest.raises(AssertionError):
        assert_weights(alone(config_of(*WITHOUT[case])).weights, expected(case).weights)
