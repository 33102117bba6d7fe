"""The program on the FSDP2 engine: as under DeepSpeed, gone on bit for bit, exported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.conftest import ROOT
from tests.integration.program import figures, metrics, run
from train.checkpoint.stored_state import read_masters
from train.telemetry.metrics import read_metrics, scalars

FSDP2 = ("--engine.kind", "fsdp2")
TOLERANCE = 2e-6  # float32: gradients are summed in another order
# By clock and memory: those are of the machine.
MEASURED = ("seconds", "tokens_per_second", "mfu", "peak_tflops", "memory", "refresh_seconds")


def test_fsdp2_is_the_run_of_deepspeed_and_goes_on_bit_for_bit(workplace, finished, tmp_path):
    theirs = finished("deepspeed")
    whole = finished("fsdp2")
    for kind, key in (("train", "loss"), ("train", "lr"), ("validation", "val_loss")):
        ours, expected = ([record[key] for record in metrics(f, kind)] for f in (whole, theirs))
        assert ours == pytest.approx(expected, rel=0, abs=TOLERANCE), key
    assert json.loads((whole / "summary.json").read_text())["engine"] == "fsdp2"

    outcome = workplace.run(1, whole.name, *FSDP2, "--dry-run", "--world-size", "2")
    assert outcome.code == 0 and "Memory per rank, FSDP2 on 2 ranks" in outcome.output
    assert "goes on from" in outcome.output

    cut = workplace.folder / "cut-fsdp2"
    step = "checkpoints/step-00000003"
    shutil.copytree(whole / step, cut / step)
    shutil.copy(whole / "metrics.jsonl", cut)
    outcome = workplace.run(2, cut.name, *FSDP2)
    assert outcome.code == 0 and "step 3 of 6" in outcome.output, outcome.output
    assert figures(cut) == figures(whole)

    shutil.rmtree(cut / "checkpoints/step-00000006")
    outcome = workplace.run(1, cut.name, "--checkpoint.convert", "never")
    assert outcome.code == 2 and "Traceback" not in outcome.output
    assert "engine was fsdp2, is deepspeed" in outcome.output
    assert "--checkpoint.convert auto converts it" in outcome.output

    outcome = run(1, ROOT, "-m", "train", "export", str(whole), "--out", str(tmp_path / "out"))
    assert outcome.code == 0, outcome.output
    weights = load_file(tmp_path / "out/model.safetensors")
    stored = read_masters(whole / "checkpoints/step-00000006/state")
    assert weights["model.norm.weight"].equal(stored["model.norm.weight"])


def told(folder: Path) -> dict[tuple[str, int, str], float]:
    """Every figure of metrics.jsonl that is not measured, by kind of line, step and name."""
    found: dict[tuple[str, int, str], float] = {}
    for record in read_metrics(folder / "metrics.jsonl"):
        kept = {key: value for key, value in record.items() if key not in MEASURED}
        figures = scalars(kept)
        found |= {(record["kind"], record["step"], name): v for name, v in figures.items()}
    return found


def test_every_figure_told_is_that_of_deepspeed(workplace):
    found = {}
    for engine, own in (("fsdp2", FSDP2), ("zero3", ())):
        folder = f"told-{engine}"
        outcome = workplace.run(2, folder, *own, "--log.dynamics", "1")
        assert outcome.code == 0, outcome.output
        found[engine] = told(workplace.folder / folder)
    ours, theirs = found["fsdp2"], found["zero3"]
    groups = {"/".join(name.split("/")[:2]) for _, _, name in theirs}
    assert groups >= {
        *("train/loss", "train/grad_norm", "train/weight_norms", "train/cumulative_decay_mean"),
        *("validation/val_loss", "validation/attention_logit_bound", "validation/output_logit_max"),
        *("refresh/alphas", "refresh/weight_decays", "refresh/half_life_steps"),
        *("dynamics/rotation", "dynamics/equilibrium", "dynamics/effective_lr"),
    }
    assert ours.keys() == theirs.keys()
    for key, figure in theirs.items():
        # a growth is the difference of two logarithms: what their last bits leave is absolute
        rounding = 2e-7 if "dynamics/norm_growth" in key[2] else 0.0
        assert ours[key] == pytest.approx(figure, rel=2e-5, abs=rounding), key
