"""metrics.jsonl: strict JSON, cut back on resume."""

import errno
import json
import math
import os

import pytest

from alphadecay.inspect.run.metrics import perplexity
from train.errors import UserError
from train.system import patience
from train.telemetry import metrics
from train.telemetry.metrics import MetricsWriter, read_metrics, scalars

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


class Disk:
    """Stands in for os.write: takes so many bytes and no more, then fails."""

    def __init__(self, number):
        self.number = number
        self.room = None
        self.real = os.write

    def write(self, file, content):
        if self.room is None:
            return self.real(file, content)
        taken = content[: self.room]
        if not taken:
            raise OSError(self.number, os.strerror(self.number))
        self.room -= len(taken)
        return self.real(file, taken)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ESTALE, errno.EIO])
@pytest.mark.parametrize("room", [0, 10])
def test_lines_wait_for_room_and_are_written_whole(tmp_path, monkeypatch, number, room):
    disk = Disk(number)
    monkeypatch.setattr(metrics.os, "write", disk.write)
    path = tmp_path / "metrics.jsonl"
    said = []
    with MetricsWriter(path, say=said.append) as writer:
        writer.write("train", 1, FIGURES)
        disk.room = room  # a part of the next line
        for step in (2, 3):
            assert writer.write("train", step, FIGURES)["step"] == step
        assert [record["step"] for record in read_metrics(path)] == [1]
        assert said == [f"warning: {path}: {os.strerror(number)}; its lines wait in memory"]
        disk.room = None
        writer.write("train", 4, FIGURES)
        assert [record["step"] for record in read_metrics(path)] == [1, 2, 3, 4]
    assert said[1:] == [f"{path} is written again, the lines that waited too"]


def test_lines_that_find_no_room_to_the_end_are_counted(tmp_path, monkeypatch):
    disk = Disk(errno.ENOSPC)
    monkeypatch.setattr(metrics.os, "write", disk.write)
    said = []
    writer = MetricsWriter(tmp_path / "metrics.jsonl", say=said.append)
    disk.room = 0
    for step in (1, 2):
        writer.write("train", step, FIGURES)
    writer.close()
    writer.close()
    assert said[-1] == f"warning: the last 2 lines of {writer.path} could not be written"
    assert len(said) == 2


def test_a_file_that_fails_for_a_moment_is_begun_later(tmp_path, monkeypatch):
    path = tmp_path / "metrics.jsonl"
    write_steps(path, [1, 2, 3])
    pauses = []
    real = os.open

    def stale(file, *more):
        if len(pauses) < 2 and str(file).startswith(str(path)):
            raise OSError(errno.ESTALE, "Stale file handle", str(file))
        return real(file, *more)

    monkeypatch.setattr(metrics.os, "open", stale)
    monkeypatch.setattr(patience.time, "sleep", pauses.append)
    said = []
    with MetricsWriter(path, resume_step=2, say=said.append) as writer:
        writer.write("train", 3, FIGURES)
    assert [record["step"] for record in read_metrics(path)] == [1, 2, 3]
    assert pauses == list(patience.PAUSES[:2]) and len(said) == 2


def test_a_file_that_cannot_be_begun_is_named(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    (tmp_path / "metrics.jsonl.previous").touch()
    with pytest.raises(UserError, match=r"cannot write .*metrics.jsonl: Not a directory"):
        MetricsWriter(tmp_path / "metrics.jsonl")
