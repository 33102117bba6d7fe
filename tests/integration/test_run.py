"""Whole runs: what they leave behind, and that resuming, repeating and another launcher change
nothing.
"""

from __future__ import annotations

import json
import math
import shutil

import matplotlib.image
import pytest
import torch
import yaml

from alphadecay.inspect.run.parts import PARTS
from tests.integration.comparing import BY_MODULE, REFRESHES, assert_same_run
from tests.integration.program import GLOBAL_BATCH, SEQUENCE, STEPS, VOCABULARY, metrics
from train.checkpoint import find
from train.config.command_line import load_config
from train.system.provenance import own_provenance

PROJECTIONS = [f"self_attn.{kind}_proj" for kind in "qkvo"] + [
    f"mlp.{kind}_proj" for kind in ("gate", "up", "down")
]
MODULES = {f"model.layers.{layer}.{kind}.weight" for layer in range(2) for kind in PROJECTIONS}
PARAMETERS = 2 * VOCABULARY * 32 + 2 * (4 * 32 * 32 + 3 * 32 * 64 + 2 * 32) + 32
POSITIVE = (
    "loss",
    "lr",
    "grad_norm",
    "tokens_per_second",
    "mfu",
    "peak_tflops",
    "cumulative_decay_mean",
    "weight_norm",
)
TRAINING_LINE = {"kind", "step", "tokens", "seconds", "memory", "weight_norms", *POSITIVE}


def cut(whole, folder, step, lines=()):
    """A run that was killed: it has the checkpoint of `step`, and metrics that had got further."""
    name = f"checkpoints/step-{step:08d}"
    shutil.copytree(whole / name, folder / name)
    shutil.copy(whole / "metrics.jsonl", folder / "metrics.jsonl")
    for line in lines:
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(line)
    return folder


def weights(folder, step, ranks):
    """Every rank's float32 masters in a checkpoint."""
    states = sorted((folder / f"checkpoints/step-{step:08d}").rglob("*optim_states.pt"))
    assert len(states) == ranks
    return [
        torch.load(path, weights_only=False)["optimizer_state_dict"]["fp32_flat_groups"]
        for path in states
    ]


@pytest.mark.parametrize(("launcher", "ranks"), [("deepspeed", 2), ("python", 1)])
def test_a_run_leaves_everything_behind(finished, launcher, ranks):
    folder = finished(launcher)
    training = metrics(folder, "train")
    assert [record["step"] for record in training] == list(range(1, STEPS + 1))
    for record in training:
        assert set(record) == TRAINING_LINE
        assert record["tokens"] == record["step"] * GLOBAL_BATCH * SEQUENCE
        assert all(math.isfinite(record[key]) and record[key] > 0 for key in POSITIVE)
        assert set(record["seconds"]) == set(PARTS) and record["seconds"]["forward_backward"] > 0
        assert record["memory"]["peak_resident_bytes"] >= record["memory"]["resident_bytes"] > 0
        assert record["weight_norm"] ** 2 == pytest.approx(
            sum(norm**2 for norm in record["weight_norms"].values()), rel=1e-9
        )
    assert [record["lr"] for record in training[:1] + training[-1:]] == pytest.approx(
        [3e-3, 3e-4], rel=1e-12
    )

    validation = metrics(folder, "validation")
    assert [record["step"] for record in validation] == [0, 3, 6]
    for record in validation:
        assert set(record) == {"kind", "step", "val_tokens", "figure"} | {
            f"val_{f}{p}" for f in ("loss", "perplexity") for p in ("", "_published")
        }
        assert record["val_perplexity"] == pytest.approx(math.exp(record["val_loss"]))
        assert record["val_tokens"] == 512 // SEQUENCE * (SEQUENCE - 1)
        # All rows fit into one batch, which the published code divides by two.
        assert record["val_perplexity_published"] == pytest.approx(math.exp(record["val_loss"] / 2))
    assert validation[-1]["val_loss"] < validation[0]["val_loss"] < math.log(VOCABULARY) + 0.1

    refreshes = metrics(folder, "refresh")
    assert [record["step"] for record in refreshes] == REFRESHES
    for record in refreshes:
        assert set(record) - {"statuses"} == {"kind", "step", "refresh_seconds", *BY_MODULE}
        assert all(set(record[key]) == MODULES for key in BY_MODULE)
        assert min(record["alphas"].values()) > 1 and record["refresh_seconds"] > 0
        decays = record["weight_decays"].values()
        assert min(decays) == pytest.approx(0.067) and max(decays) == pytest.approx(0.5)

    summary = json.loads((folder / "summary.json").read_text())
    expected = {
        "world_size": ranks,
        "zero_stage": 3,
        "steps": STEPS,
        "tokens": STEPS * GLOBAL_BATCH * SEQUENCE,
    }
    assert {key: summary[key] for key in expected} == expected
    assert (
        summary["model_parameters"] == PARAMETERS
        and summary["precision"] == "float32"
        and summary["tokens_per_second"] > 0
    )
    assert (
        summary["mfu"] > 0
        and summary["peak_source"].startswith("measured")
        and summary["memory"]["peak_resident_bytes"] > 0
    )
    shares = dict(summary["time_shares"])
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares.pop("compiling") == 0.0 and min(shares.values()) > 0  # on CPUs nothing is
    for key in ("val_perplexity_published", "val_tokens"):
        assert summary[key] == validation[-1][key]
    ends = [validation[0]["val_perplexity"], validation[-1]["val_perplexity"]]
    assert [summary["val_perplexity_first"], summary["val_perplexity"]] == ends
    assert all(
        summary["versions"][name]
        for name in ("python", "torch", "deepspeed", "transformers", "alphadecay")
    )
    assert summary["sources"] == own_provenance()["sources"] and summary["data"].endswith(" packed")

    assert (folder / "heatmap.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert matplotlib.image.imread(folder / "heatmap.png").std() > 0.01
    found = find("auto", folder / "checkpoints", pytest.fail)
    assert found is not None and found.step == STEPS
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [
        "latest",
        "step-00000003",
        "step-00000006",
    ]


def test_the_configuration_left_behind_starts_the_same_run(workplace, finished):
    path = finished("python") / "config.yaml"
    kept = load_config(["--config", str(path)])
    assert kept == load_config(
        ["--config", str(workplace.recipe), "--output_dir", str(path.parent)]
    )


def test_nothing_is_written_beside_the_output(workplace, finished):
    finished("python")
    known = {"corpus", "prepared", "tiny.yaml", "whole", "cut", "refused", "other", "method"}
    # of other files: architectures, zero-shot, methods, telemetry
    known |= {"qwen3", "gpt2", "asked", "base", "told"}
    assert {path.name.split("-")[0] for path in workplace.folder.iterdir()} <= known


def test_the_same_command_again_changes_nothing(workplace, finished):
    whole = finished("deepspeed")
    names = (
        "metrics.jsonl",
        "config.yaml",
        "checkpoints/step-00000006/manifest.json",
        "checkpoints/step-00000003/manifest.json",
    )
    before = [(whole / name).read_text() for name in names]
    summary = json.loads((whole / "summary.json").read_text())
    outcome = workplace.run(2, whole.name)
    assert outcome.code == 0, outcome.output
    assert f"step {STEPS} of {STEPS}" in outcome.output
    assert [(whole / name).read_text() for name in names] == before
    assert json.loads((whole / "summary.json").read_text()) == summary
    assert (whole / "heatmap.png").read_bytes().startswith(b"\x89PNG")


def test_torchrun_starts_the_same_run(workplace, finished):
    assert_same_run(finished("torchrun"), finished("deepspeed"))
    for one, other in zip(
        weights(finished("torchrun"), STEPS, 2),
        weights(finished("deepspeed"), STEPS, 2),
        strict=True,
    ):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_one_rank_learns_what_two_learn(finished):
    # Sums of gradients are taken in another order; nothing else differs.
    for kind, key in (("train", "loss"), ("train", "grad_norm"), ("validation", "val_loss")):
        one, two = (
            [record[key] for record in metrics(finished(launcher), kind)]
            for launcher in ("python", "deepspeed")
        )
        assert one == pytest.approx(two, rel=1e-4), key


def test_another_stage_trains_alike(workplace, finished):
    outcome = workplace.run(1, "other-stage", "--deepspeed.config", "ds_configs/zero1.json")
    assert outcome.code == 0, outcome.output
    one = workplace.folder / "other-stage"
    three = finished("python")
    assert json.loads((one / "summary.json").read_text())["zero_stage"] == 1
    for kind, key in (("train", "loss"), ("validation", "val_loss")):
        assert [r[key] for r in metrics(one, kind)] == pytest.approx(
            [r[key] for r in metrics(three, kind)], rel=1e-5
        )
    for a, b in zip(metrics(one, "refresh"), metrics(three, "refresh"), strict=True):
        assert a["step"] == b["step"] and a["weight_decays"] == pytest.approx(
            b["weight_decays"], rel=1e-3
        )


def test_two_ranks_cut_and_resumed_end_where_the_uninterrupted_run_ends(workplace, finished):
    whole = finished("deepspeed")
    # killed while writing a line
    folder = cut(whole, workplace.folder / "cut-two", 3, lines=['{"kind": "train", "st'])
    outcome = workplace.run(2, folder.name, "--resume", "auto")
    assert outcome.code == 0, outcome.output
    assert "step 3 of 6" in outcome.output
    assert_same_run(folder, whole)
    for one, other in zip(weights(folder, STEPS, 2), weights(whole, STEPS, 2), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    first, last = (json.loads((path / "summary.json").read_text()) for path in (whole, folder))
    for key in ("val_perplexity_first", "val_perplexity", "steps", "tokens"):
        assert first[key] == last[key]


def test_a_refresh_just_before_the_checkpoint_is_not_lost(workplace):
    """A checkpoint of step 2 already has the decays of step 3; after a resume metrics.jsonl still
    shows where they came from.
    """
    folder = workplace.folder / "cut-early"
    settings = ("--checkpoint.every", "2", "--checkpoint.keep", "0")
    outcome = workplace.run(1, "whole-early", *settings)
    assert outcome.code == 0, outcome.output
    whole = workplace.folder / "whole-early"
    assert len(list((whole / "checkpoints").glob("step-*"))) == 3  # keep 0 keeps all
    cut(whole, folder, 2)
    damaged = folder / "checkpoints/step-00000004"
    shutil.copytree(whole / "checkpoints/step-00000004", damaged)
    next(damaged.rglob("*optim_states.pt")).write_bytes(b"cut short")
    outcome = workplace.run(1, folder.name, *settings)
    assert outcome.code == 0, outcome.output
    assert "passing over" in outcome.output and "step 2 of 6" in outcome.output
    assert_same_run(folder, whole)
    assert yaml.safe_load((folder / "config.yaml").read_text())["checkpoint"]["every"] == 2
