"""metrics.jsonl: strict JSON, cut back on resume."""

import json
import math

import pytest

from train.errors import UserError
from train.telemetry.metrics import MetricsWriter, perplexity, read_metrics, scalars

FIGURES = {"loss": 4.0, "lr": 1e-3, "grad_norm": 0.5, "tokens": 100, "tokens_per_second": 9.5}


def write_steps(path, steps, resume_step=None):
    with MetricsWriter(path, resume_step) as writer:
        for step in steps:
            writer.write("train", step, FIGURES)


def test_records_read_back(tmp_path):
    path = tmp_path / "deep" / "metrics.jsonl"
    with MetricsWriter(path) as writer:
        first = writer.write("refresh", 0, {"alphas": {"a": 2.5}, "weight_decays": {"a": 0.1}})
        second = writer.write("train", 1, FIGURES)
        assert len(path.read_text().splitlines()) == 2  # on disk before the file is closed
    assert first == {
        "kind": "refresh",
        "step": 0,
        "alphas": {"a": 2.5},
        "weight_decays": {"a": 0.1},
    }
    assert read_metrics(path) == [first, second] and second == {
        "kind": "train",
        "step": 1,
        **FIGURES,
    }
    assert read_metrics(path, "train") == [second]


def test_nan_and_infinity_are_null(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsWriter(path) as writer:
        writer.write("train", 1, {**FIGURES, "loss": math.nan})
        writer.write("refresh", 1, {"alphas": {"a": math.inf, "b": 2.0}})

    def refuse(word):
        raise AssertionError(word)

    train, refresh = (
        json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()
    )
    assert train["loss"] is None and refresh["alphas"] == {"a": None, "b": 2.0}


def test_scalars_are_flat_and_finite():
    record = {
        "kind": "refresh",
        "step": 4,
        "alphas": {"a": None, "b": 2.0},
        "seconds": 1,
        "statuses": {"a": "zero"},
        "applied": True,
    }
    assert scalars(record) == {"refresh/alphas/b": 2.0, "refresh/seconds": 1}


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
    assert (
        perplexity(0.0) == 1.0 and perplexity(1e4) == math.inf and math.isnan(perplexity(math.nan))
    )
