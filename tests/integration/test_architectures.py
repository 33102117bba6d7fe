"""Every architecture trains under each engine, goes on bit for bit and elsewhere, and is exported.

LLaMA has the other files of this folder.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.conftest import ROOT
from tests.integration.program import figures, metrics, run
from train.export.trained import find_trained

ZERO = ("--deepspeed.config", "ds_configs/zero1.json")
ENGINES = {
    "zero1": ZERO,
    "zero3": ("--deepspeed.config", "ds_configs/zero3.json"),
    "fsdp2": ("--engine.kind", "fsdp2"),
}
# float32: gradients are summed in another order.
TOLERANCE = 3e-6
KINDS = {
    "qwen3": ("--model.num_kv_heads", "1", "--model.tie_embeddings", "true"),
    "gpt2": ("--model.tie_embeddings", "true"),
}


@pytest.fixture(scope="module", params=KINDS)
def runs(request, workplace) -> dict[str, Path]:
    """Runs of one architecture, an engine each."""
    done = {}
    for engine in ENGINES:
        name = f"{request.param}-{engine}"
        outcome = workplace.run(2, name, *arguments(request.param, engine))
        assert outcome.code == 0, outcome.output
        done[engine] = workplace.folder / name
    return done


def arguments(kind: str, engine: str) -> tuple[str, ...]:
    """What makes a run one of this architecture under this engine."""
    return ("--model.architecture", kind, *KINDS[kind], *ENGINES[engine])


def test_engines_agree(runs):
    for kind, key in (("train", "loss"), ("train", "grad_norm"), ("validation", "val_loss")):
        zero1, *others = ([r[key] for r in metrics(f, kind)] for f in runs.values())
        for other in others:
            assert other == pytest.approx(zero1, rel=0, abs=TOLERANCE), key
    zero1, *others = (metrics(folder, "refresh") for folder in runs.values())
    for other in others:
        for ours, theirs in zip(other, zero1, strict=True):
            # The tail's smallest eigenvalues of a matrix of 32 move α most.
            assert ours["weight_decays"] == pytest.approx(theirs["weight_decays"], rel=1e-3)


@pytest.mark.parametrize("engine", ENGINES)
def test_it_goes_on_bit_for_bit_and_on_one_rank(runs, engine, workplace):
    whole = runs[engine]
    kind = whole.name.partition("-")[0]
    for ranks in (2, 1):
        cut = workplace.folder / f"{whole.name}-on-{ranks}"
        step = "checkpoints/step-00000003"
        shutil.copytree(whole / step, cut / step)
        shutil.copy(whole / "metrics.jsonl", cut)
        outcome = workplace.run(ranks, cut.name, *arguments(kind, engine))
        assert outcome.code == 0 and "step 3 of 6" in outcome.output, outcome.output
        if ranks == 2:
            assert figures(cut) == figures(whole)
        else:
            ours, theirs = ([r["loss"] for r in metrics(f, "train")] for f in (cut, whole))
            assert ours == pytest.approx(theirs, rel=0, abs=TOLERANCE)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_exported_folder_gives_the_same_logits(runs, engine, tmp_path):
    outcome = run(1, ROOT, "-m", "train", "export", str(runs[engine]), "--out", str(tmp_path / "o"))
    assert outcome.code == 0, outcome.output
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "o").eval()
    trained = find_trained(runs[engine], "", print).load(torch.float32)
    tokens = torch.arange(32)[None]
    with torch.no_grad():
        assert torch.equal(model(tokens).logits, trained(tokens).logits)
