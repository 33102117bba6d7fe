"""A checkpoint of one engine, or of ZeRO stage 0, goes on under another, at another number of
ranks: what it holds arrives bit for bit, and the training is that of one process that was never
cut.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.distributed.engine_runs import (
    ENGINES,
    STEPS,
    Run,
    Trained,
    alone,
    assert_same,
    config_of,
    rows_of,
    solving_in_float64,
)
from tests.distributed.harness import run_ranks
from tests.engines import loss_of_text
from train.checkpoint.manifest import Checkpoint
from train.checkpoint.stored_state import open_optimizer
from train.checkpoint.universal import convert
from train.errors import UserError

CUT = STEPS // 2
ZERO = ("zero0", "zero1", "zero2", "zero3")
# DeepSpeed's own loader has the pairs of ZeRO 1 to 3: test_universal.py, test_another_world.py
PAIRS = [
    (one, other)
    for one, other in product(("fsdp2", *ZERO), repeat=2)
    if one != other and {"fsdp2", "zero0"} & {one, other}
]
SOME = [("fsdp2", "zero3"), ("zero3", "fsdp2"), ("zero0", "zero2"), ("zero1", "zero0")]
# further arguments, and the pairs
CASES: dict[str, tuple[tuple[str, ...], list[tuple[str, str]]]] = {
    "float32": ((), PAIRS),
    "bf16": (("--run.precision=bf16",), PAIRS),
    "average, tied": (("--optim.ema=0.9", "--model.tie_embeddings=true"), SOME),
    # DeepSpeed's loader takes no momentum of SGD's
    "sgdw": (("--optim.name=sgdw",), [*SOME, ("zero2", "zero3"), ("zero3", "zero1")]),
}


@solving_in_float64()
def first_half(rank: int, folder: str, own: tuple[str, ...]) -> list[list[float]]:
    """Train under every engine up to the cut, and save."""
    losses = []
    for name, engine in ENGINES.items():
        run = Run(config_of(*engine, *own))
        losses.append(run.take(range(CUT)).losses)
        run.save(Path(folder) / name / "state")
    return losses


def universal(folder: Path, name: str) -> Path:
    """Convert what an engine saved; return the state's folder."""
    path = folder / name
    (path / "manifest.json").write_text("{}")
    layout = {} if name == "fsdp2" else {"zero_stage": int(name[-1])}
    manifest = {"step": CUT, "world_size": 2, "files": {}, **layout}
    return convert(Checkpoint(path, manifest), folder / f"{name}-universal").path / "state"


@solving_in_float64()
def second_half(
    rank: int, folder: str, pairs: list[tuple[str, str]], own: tuple[str, ...]
) -> list[Trained]:
    """Go on from each engine's under another: save what was loaded, and train to the end."""
    found = []
    for source, target in pairs:
        run = Run(config_of(*ENGINES[target], *own))
        run.load(Path(folder) / f"{source}-universal" / "state")
        run.save(Path(folder) / f"{source}-to-{target}" / "state")
        found.append(run.take(range(CUT, STEPS)))
    return found


@pytest.mark.parametrize("case", CASES)
def test_it_goes_on_as_if_it_had_not_been_cut(case: str, tmp_path: Path) -> None:
    own, pairs = CASES[case]
    before = dict(zip(ENGINES, run_ranks(2, first_half, str(tmp_path), own)[0], strict=True))
    for name in ENGINES:
        universal(tmp_path, name)
    after = run_ranks(3, second_half, str(tmp_path), pairs, own)[0]
    for (source, target), found in zip(pairs, after, strict=True):
        loaded = contents(tmp_path / f"{source}-to-{target}" / "state")
        assert_equal(loaded, contents(tmp_path / source / "state"))
        if case != "bf16":  # whose sums are rounded by the number of ranks
            losses = before[source] + found.losses
            whole = Trained(losses, found.decays, found.norm, found.weights)
            assert_same(whole, alone(config_of(*own)))


def contents(state: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Every weight, moment and count in an engine's files, by name."""
    stored = open_optimizer(state)
    count = {} if stored.step is None else {"step": torch.as_tensor(stored.step)}
    return {
        name: {kind: weight.read() for kind, weight in kinds.items()} | count
        for name, kinds in stored.parameters.items()
    }


def assert_equal(found: Any, expected: Any) -> None:
    assert found.keys() == expected.keys()
    for name, kinds in expected.items():
        assert found[name].keys() == kinds.keys()
        for kind, tensor in kinds.items():
            assert torch.equal(found[name][kind], tensor), (name, kind)


def of_another(rank: int, folder: str, engine: str) -> str:
    """What a rank says to a state of SGD under Adam."""
    run = Run(config_of(*ENGINES[engine]))
    with pytest.raises(UserError) as caught:
        run.load(Path(folder) / "fsdp2-universal" / "state")
    return f"{caught.value}"


def by_sgd(rank: int, folder: str) -> None:
    """Save a state that has a momentum and no moments of Adam's."""
    run = Run(config_of(*ENGINES["fsdp2"], *CASES["sgdw"][0]))
    run.take(range(1))
    run.save(Path(folder) / "fsdp2" / "state")


def before_a_step(rank: int, folder: str, source: str) -> None:
    Run(config_of(*ENGINES[source])).save(Path(folder) / source / "state")


def from_the_start(rank: int, folder: str, source: str, target: str) -> Trained:
    run = Run(config_of(*ENGINES[target]))
    run.load(Path(folder) / f"{source}-universal" / "state")
    with solving_in_float64():
        return run.take(range(STEPS))


@pytest.mark.parametrize(("source", "target"), [("fsdp2", "zero2"), ("zero0", "fsdp2")])
def test_one_that_was_saved_before_the_first_step_goes_on(
    source: str, target: str, tmp_path: Path
) -> None:
    run_ranks(2, before_a_step, str(tmp_path), source)
    universal(tmp_path, source)
    found = run_ranks(2, from_the_start, str(tmp_path), source, target)[0]
    assert_same(found, alone(config_of()))


def skipping(rank: int, folder: str) -> int:
    """Skip a step under FSDP2, take two more, and save; return the steps that the decay saw."""
    run = Run(config_of(*ENGINES["fsdp2"]))
    for step in range(3):
        for row in rows_of(step).chunk(run.ranks)[rank]:
            loss = loss_of_text(run.engine, row[None])
            run.engine.backward(loss * float("nan") if step == 0 else loss)
            run.engine.step()
        assert run.decay is not None
        run.decay.step()
    run.save(Path(folder) / "fsdp2" / "state")
    return int(run.decay.state_dict()["step"])


def counting_on(rank: int, folder: str) -> list[int]:
    """The steps that the decay has seen under ZeRO-2, when loaded and after a step."""
    run = Run(config_of(*ENGINES["zero2"]))
    run.load(Path(folder) / "fsdp2-universal" / "state")
    assert run.decay is not None
    counts = [int(run.decay.state_dict()["step"])]
    run.take(range(3, 4))
    return [*counts, int(run.decay.state_dict()["step"])]


def test_deepspeed_counts_on_from_steps_that_fsdp2_skipped(tmp_path: Path) -> None:
    assert run_ranks(2, skipping, str(tmp_path)) == [2, 2]
    universal(tmp_path, "fsdp2")
    assert run_ranks(2, counting_on, str(tmp_path)) == [[2, 3]] * 2


@pytest.mark.parametrize("engine", ["fsdp2", "zero0"])
def test_what_is_missing_is_named_on_every_rank(engine: str, tmp_path: Path) -> None:
    run_ranks(2, by_sgd, str(tmp_path))
    universal(tmp_path, "fsdp2")
    for said in run_ranks(2, of_another, str(tmp_path), engine):
        assert "there is no zero/" in said and "exp_avg.pt" in said
