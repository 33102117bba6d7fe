"""The bench of the training loop runs, on both loops, and writes what it promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench import train
from tests.bench.turns import Turn


def test_train(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")  # what Trainer runs on
    assert (
        train.main(
            [
                "--size",
                "toy",
                "--stages",
                "3",
                "--repeats",
                "2",
                "--out",
                str(tmp_path / "train.json"),
            ]
        )
        == 0
    )
    results = json.loads((tmp_path / "train.json").read_text())
    (row,) = results["sizes"]["toy"]["stages"]
    assert row["tokens"] == 4 * 32 * 2 and row["stage"] == 3
    for name in train.ARMS:
        speed = row["tokens_per_second"][name]["median"]
        share = row["share_of_matmul"][name]["median"]
        toy = train.SIZES["toy"].model
        flops = train.spec_of(toy).flops_per_token(toy, 32)
        assert (
            share == pytest.approx(speed * flops / 1e12 / row["matmul_tflops"], rel=1e-9)
            and 0 < share < 1
        )
    assert (
        set(row["over_trainer"])
        == set(row["over_trainer_in_cpu_time"])
        == {"uniform", "alphadecay"}
    )


def test_a_failing_loop_is_not_swallowed() -> None:
    def loop(gate: object) -> None:
        raise ZeroDivisionError("in the loop")

    with pytest.raises(ZeroDivisionError, match="in the loop"):
        Turn(loop).start()


def test_a_turn_is_one_iteration() -> None:
    done = []

    def loop(gate: object) -> None:
        for step in range(100):
            gate()  # type: ignore[operator]
            done.append(step)

    turn = Turn(loop)
    turn.start()
    assert done == []
    assert turn.step() >= (0.0, 0.0) and turn.step() and done == [0, 1]
    turn.end()
    assert done == [0, 1]
