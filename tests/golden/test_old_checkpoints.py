"""Checkpoints that version 0.1 wrote (commit 19b176b) are gone on from, and end where it ended.

checkpoints-0.1 holds two runs of `tiny.yaml` by that version: their checkpoints of step 3, and the
`metrics.jsonl` of all 6 steps. zero1 is one rank, with a spread refresh under way at that step;
zero3 is two ranks.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.program import PROGRAM, Outcome, metrics, run
from train.config.command_line import load_config
from train.data.preparing.prepare import prepare

OLD = Path(__file__).with_name("checkpoints-0.1")
STEPS = 6
CUT = 3
# float32 on a machine whose kernels add in another order, passed on by Adam's division.
CLOSE = 1e-5
DECAYS = 1e-3  # of the difference of two alphas


@dataclass(frozen=True)
class OldRun:
    """A run of version 0.1: its folder, its ranks, and what was set beside the recipe."""

    name: str
    ranks: int
    settings: tuple[str, ...]


ZERO1 = OldRun("zero1", 1, ("--deepspeed.config", "ds_configs/zero1.json"))
ZERO3 = OldRun("zero3", 2, ("--deepspeed.config", "ds_configs/zero3.json"))
SPREAD = ("--decay.spread", "2")
CASES = [pytest.param(ZERO1, SPREAD, id="zero1"), pytest.param(ZERO3, (), id="zero3")]


def take_over(old: OldRun, folder: Path, same_data: bool = True) -> list[str]:
    """Copy an old run to `folder`; return the arguments that go on with it.

    That version knew files of text by their path and time, which a copy does not have: with
    `same_data` the checkpoint's manifest is told the name that it would have given the copy.
    """
    shutil.copytree(OLD / "corpus", folder / "corpus")
    shutil.copytree(OLD / old.name, folder / "run")
    arguments = [
        *("--config", str(OLD / "tiny.yaml"), "--output_dir", str(folder / "run")),
        *("--data.files", str(folder / "corpus" / "*.gz")),
        *("--data.directory", str(folder / "prepared")),
        *("--data.tokenizer", str(OLD / "tokenizer.model")),
        *old.settings,
    ]
    if same_data:
        config = load_config(arguments)
        prepared = prepare(config.data, config.model.vocab_size)
        path = folder / f"run/checkpoints/step-{CUT:08d}/manifest.json"
        manifest = json.loads(path.read_text())
        fingerprint = prepared.name.rpartition("-")[2]
        manifest["data"] = f"{fingerprint} {manifest['data'].rpartition(' ')[2]}"
        path.write_text(json.dumps(manifest))
    return arguments


def start(old: OldRun, folder: Path, *arguments: str) -> Outcome:
    return run(old.ranks, folder, PROGRAM, *arguments)


def by_step(folder: Path, kind: str, key: str) -> dict[int, float]:
    return {record["step"]: record[key] for record in metrics(folder, kind)}


@pytest.mark.parametrize(("old", "more"), CASES)
def test_it_ends_where_the_old_run_ended(
    tmp_path: Path, old: OldRun, more: tuple[str, ...]
) -> None:
    outcome = start(old, tmp_path, *take_over(old, tmp_path), *more)
    assert outcome.code == 0, outcome.output
    assert f"step {CUT} of {STEPS}" in outcome.output
    ours, theirs = tmp_path / "run", OLD / old.name
    for kind, key in (("train", "loss"), ("train", "grad_norm"), ("validation", "val_loss")):
        expected = by_step(theirs, kind, key)
        assert max(expected) == STEPS
        assert by_step(ours, kind, key) == pytest.approx(expected, rel=CLOSE), key
    for line, before in zip(metrics(ours, "refresh"), metrics(theirs, "refresh"), strict=True):
        assert line["step"] == before["step"]
        assert line["alphas"] == pytest.approx(before["alphas"], rel=CLOSE)
        assert line["weight_decays"] == pytest.approx(before["weight_decays"], rel=DECAYS)


def test_the_tolerance_sees_another_decay(tmp_path: Path) -> None:
    arguments = take_over(ZERO1, tmp_path)
    shutil.rmtree(tmp_path / "run")
    outcome = start(ZERO1, tmp_path, *arguments, "--decay.method", "uniform")
    assert outcome.code == 0, outcome.output
    losses = by_step(tmp_path / "run", "train", "loss")
    expected = by_step(OLD / "zero1", "train", "loss")
    assert losses[1] == pytest.approx(expected[1], rel=CLOSE)
    assert all(abs(losses[step] / expected[step] - 1) > 10 * CLOSE for step in (5, 6))


def test_other_data_is_refused_with_the_reason(tmp_path: Path) -> None:
    outcome = start(ZERO1, tmp_path, *take_over(ZERO1, tmp_path, same_data=False), *SPREAD)
    assert outcome.code == 2, outcome.output
    assert "data was " in outcome.output and "Traceback" not in outcome.output
