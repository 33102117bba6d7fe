"""After the last checkpoint nothing makes a finished run one that failed."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from alphadecay.inspect.run.metrics import PERPLEXITY
from train.config import EngineConfig, RunConfig, TrainConfig
from train.config.run_folder import SUMMARY
from train.loop.run_status import read_state
from train.reporting import finish
from train.telemetry.metrics import MetricsWriter
from train.telemetry.summary import read_summary


@pytest.fixture
def trainer(tmp_path):
    """A run that has taken its last step and saved."""
    with MetricsWriter(tmp_path / "metrics.jsonl") as metrics:
        metrics.write("refresh", 0, {"alphas": {"a": 2.0}, "weight_decays": {"a": 0.1}})
    world = SimpleNamespace(size=1, is_main=True, barrier=lambda: None, device=torch.device("cpu"))
    telemetry = SimpleNamespace(
        began=True, summary=lambda: {"val_perplexity_published": math.nan}, close=lambda: None
    )
    return SimpleNamespace(
        config=TrainConfig(run=RunConfig(micro_batch=1)),
        world=world,
        telemetry=telemetry,
        decay=SimpleNamespace(alphas={"a": 2.0}, weight_decays={"a": 0.1}),
        folder=tmp_path,
        identity={"data": "x"},
        engine=SimpleNamespace(
            module=torch.nn.Linear(2, 2), layout={"zero_stage": 1}, dtype=torch.float32
        ),
        progress=SimpleNamespace(tokens=8, figure=(9.0, 8.0)),
        task=SimpleNamespace(figure=PERPLEXITY),
        requests=SimpleNamespace(honoured=lambda: None),
        step=4,
        stopped="",
        saved=tmp_path / "checkpoints" / "step-00000004",
        lease=None,
    )


def end(trainer):
    """What train/pretrain.py does after the last step."""
    with finish.running(trainer):
        finish.close(trainer, 1.0)
    return finish.leave(trainer)


@pytest.mark.parametrize(("shard", "recorded"), [(0, 4), (2, 2)])
def test_the_summary_has_fsdp2s_shards(trainer, shard, recorded):
    trainer.world.size = 4
    trainer.engine.layout = {"engine": "fsdp2"}
    trainer.config = replace(trainer.config, engine=EngineConfig(kind="fsdp2", shard=shard))
    assert end(trainer) == 0
    summary = read_summary(trainer.folder / SUMMARY)
    assert summary["engine"] == "fsdp2" and summary["engine_shard"] == recorded
    assert trainer.engine.layout == {"engine": "fsdp2"}  # a part of a checkpoint's identity


def test_deepspeeds_summary_has_no_shards(trainer):
    assert end(trainer) == 0
    summary = read_summary(trainer.folder / SUMMARY)
    assert summary["zero_stage"] == 1 and "engine_shard" not in summary


def test_a_run_ends_with_its_summary_and_picture(trainer, capsys):
    assert end(trainer) == 0
    assert capsys.readouterr().err == ""
    assert read_summary(trainer.folder / SUMMARY)["val_perplexity"] == 8.0
    assert (trainer.folder / "heatmap.png").stat().st_size > 1000
    assert read_state(trainer.folder)["state"] == "finished"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("write_summary", "summary.json"),
        ("write_heatmaps", "heatmap.png"),
        ("read_metrics", "heatmap.png"),
        ("print_closing_summary", "summary and pictures"),
        ("count_parameters", "summary and pictures"),
    ],
)
@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), UnicodeEncodeError("ascii", "→", 0, 1, "no")],
    ids=["full", "ascii"],
)
def test_whatever_fails_then_is_a_warning(trainer, monkeypatch, capsys, name, said, error):
    def fails(*_, **more):
        raise error

    monkeypatch.setattr(finish, name, fails)
    assert end(trainer) == 0
    warning = capsys.readouterr().err
    assert f"warning: {said} of the finished run failed: {type(error).__name__}" in warning
    assert read_state(trainer.folder)["state"] == "finished"
