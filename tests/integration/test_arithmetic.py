"""Modular arithmetic in the program: the same on one rank and on two, under ZeRO-3."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.integration.program import PROGRAM, metrics, run

ARGUMENTS = (
    "--config",
    "grokking",
    "--arithmetic.modulus=11",
    "--model.vocab_size=12",
    "--model.hidden_size=32",
    "--run.steps=6",
    "--run.global_batch=32",
    "--run.micro_batch=8",
    "--eval.every=3",
    "--eval.micro_batch=8",
    "--optim.warmup_steps=1",
    "--decay.interval=3",
    "--log.every=1",
)
TOLERANCE = 3e-6  # float32: gradients are summed in another order


def trained(ranks: int, folder: Path, *more: str) -> Path:
    outcome = run(ranks, ROOT, PROGRAM, *ARGUMENTS, "--output_dir", str(folder), *more)
    assert outcome.code == 0, outcome.output
    return folder


def test_two_ranks_reckon_as_one_does(tmp_path):
    alone = trained(1, tmp_path / "alone")
    sharded = trained(2, tmp_path / "zero3", "--deepspeed.config", "ds_configs/zero3.json")
    for kind, keys in (("train", ("loss", "tokens")), ("validation", ("val_loss", "val_accuracy"))):
        for ours, theirs in zip(metrics(sharded, kind), metrics(alone, kind), strict=True):
            for key in keys:
                assert ours[key] == pytest.approx(theirs[key], rel=0, abs=TOLERANCE), key
    first, *_, last = metrics(alone, "validation")
    assert [first["step"], last["step"]] == [0, 6]
    assert last["train_accuracy"] > first["train_accuracy"]
    summary = json.loads((alone / "summary.json").read_text())
    assert summary["figure"] == {
        "name": "val_accuracy",
        "label": "accuracy, %",
        "better": "higher",
    }
    assert summary["val_accuracy"] == last["val_accuracy"]
