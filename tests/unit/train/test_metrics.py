"""metrics.jsonl: strict JSON, cut back on resume; and the optional W&B sink."""

import json
import math
import sys

import pytest

from train.errors import UserError
from train.metrics import MetricsWriter, perplexity, read_metrics
from train.wandb_sink import WandbSink

FIGURES = {"loss": 4.0, "lr": 1e-3, "grad_norm": 0.5, "tokens": 100, "tokens_per_second": 9.5}


def write_steps(path, steps, resume_step=None):
    with MetricsWriter(path, resume_step) as writer:
        for step in steps:
            writer.train(step, **FIGURES)


def test_the_three_kinds_read_back(tmp_path):
    path = tmp_path / "deep" / "metrics.jsonl"
    with MetricsWriter(path) as writer:
        writer.refresh(0, alphas={"a": 2.5}, weight_decays={"a": 0.1}, refresh_seconds=0.2)
        writer.validation(0, val_loss=2.0)
        writer.train(1, **FIGURES)
        assert len(path.read_text().splitlines()) == 3  # on disk before the file is closed
    refresh, validation, train = read_metrics(path)
    assert refresh == {"kind": "refresh", "step": 0, "alphas": {"a": 2.5}, "weight_decays": {"a": 0.1}, "refresh_seconds": 0.2}
    assert validation == {"kind": "validation", "step": 0, "val_loss": 2.0, "val_perplexity": math.exp(2.0)}
    assert train == {"kind": "train", "step": 1, **FIGURES}
    assert read_metrics(path, "train") == [train]


def test_nan_and_infinity_are_null(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsWriter(path) as writer:
        writer.train(1, **{**FIGURES, "loss": math.nan})
        writer.validation(1, val_loss=1e6)
        writer.refresh(1, alphas={"a": math.inf, "b": 2.0}, weight_decays={}, refresh_seconds=0.0)

    def refuse(word):
        raise AssertionError(word)

    train, validation, refresh = (json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines())
    assert train["loss"] is None and validation["val_perplexity"] is None and refresh["alphas"] == {"a": None, "b": 2.0}


def test_resume_drops_the_steps_that_are_run_again(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_steps(path, range(1, 8))
    write_steps(path, range(5, 7), resume_step=4)
    assert [record["step"] for record in read_metrics(path)] == [1, 2, 3, 4, 5, 6]
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_resume_survives_a_line_cut_by_a_kill(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_steps(path, [1, 2])
    with path.open("a") as file:
        file.write('{"kind": "train", "st')
    assert [record["step"] for record in read_metrics(path)] == [1, 2]
    write_steps(path, [3], resume_step=2)
    assert [record["step"] for record in read_metrics(path)] == [1, 2, 3]


def test_resume_without_a_file_starts_one(tmp_path):
    write_steps(tmp_path / "metrics.jsonl", [5], resume_step=4)
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 1


def test_a_fresh_start_sets_the_old_file_aside(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write_steps(path, [1, 2, 3])
    write_steps(path, [1])
    assert len(read_metrics(path)) == 1
    assert len(read_metrics(tmp_path / "metrics.jsonl.previous")) == 3


def test_damage_and_absence_are_told(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"kind": "train"\n{"kind": "train", "step": 2}\n')
    with pytest.raises(UserError, match="line 1"):
        read_metrics(path)
    with pytest.raises(UserError, match="cannot read"):
        read_metrics(tmp_path / "none.jsonl")


def test_perplexity_overflows_to_infinity():
    assert perplexity(0.0) == 1.0 and perplexity(1e4) == math.inf and math.isnan(perplexity(math.nan))


def test_wandb_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    sink = WandbSink("project", "name", tmp_path, {"run": {"steps": 3}})
    sink.log({"kind": "train", "step": 1, **FIGURES})
    sink.log({"kind": "refresh", "step": 1, "alphas": {"a": 2.5}, "weight_decays": {"a": 0.1}, "refresh_seconds": 0.1})
    sink.close()
    sink.close()
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))


def test_missing_wandb_tells_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"pip install 'alphadecay\[wandb\]'"):
        WandbSink("project", "name", tmp_path, {})
