"""The program on the FSDP2 engine: as under DeepSpeed, gone on bit for bit, exported."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import load_file

from tests.conftest import ROOT
from tests.integration.program import figures, metrics, run
from train.checkpoint.stored_state import read_masters

FSDP2 = ("--engine.kind", "fsdp2")
TOLERANCE = 2e-6  # float32: gradients are summed in another order


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
    outcome = workplace.run(1, cut.name)
    assert outcome.code == 2 and "Traceback" not in outcome.output
    assert "engine was fsdp2, is deepspeed" in outcome.output

    outcome = run(1, ROOT, "-m", "train", "export", str(whole), "--out", str(tmp_path / "out"))
    assert outcome.code == 0, outcome.output
    weights = load_file(tmp_path / "out/model.safetensors")
    stored = read_masters(whole / "checkpoints/step-00000006/state")
    assert weights["model.norm.weight"].equal(stored["model.norm.weight"])
