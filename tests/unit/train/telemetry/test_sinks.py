"""Views of metrics.jsonl: W&B and TensorBoard get the records, resume the same run, and never stop
the training.
"""

import sys

import pytest

from train.config import LogConfig, TrainConfig
from train.errors import UserError
from train.telemetry import sinks, wandb_sink
from train.telemetry.sinks import Guarded, check_sinks, make_sinks
from train.telemetry.tensorboard_sink import TensorBoardSink
from train.telemetry.wandb_sink import RUN_ID, WandbSink

TRAIN = {"kind": "train", "step": 1, "loss": 4.0, "seconds": {"data": 0.5}}
REFRESH = {"kind": "refresh", "step": 1, "alphas": {"a": 2.5, "b": None}}


def scalars_of(folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder), purge_orphaned_data=True)
    events.Reload()
    return {
        tag: {event.step: event.value for event in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
    }


def test_tensorboard_reads_what_was_logged_and_drops_what_is_run_again(tmp_path):
    pytest.importorskip("tensorboard")
    first = TensorBoardSink(tmp_path)
    for step in (1, 2, 3):
        first.log(TRAIN | {"step": step})
    first.log(REFRESH)
    first.close()
    first.close()
    second = TensorBoardSink(tmp_path, resume_step=2)
    second.log(TRAIN | {"step": 3, "loss": 2.0})
    second.close()
    found = scalars_of(tmp_path / "tensorboard")
    assert found["train/loss"] == {1: 4.0, 2: 4.0, 3: 2.0}
    assert found["train/seconds/data"] == {1: 0.5, 2: 0.5, 3: 0.5} and found[
        "refresh/alphas/a"
    ] == {1: 2.5}
    assert "refresh/alphas/b" not in found


def test_wandb_goes_on_with_the_same_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    ids = []
    for resumed in (False, True, False):
        sink = WandbSink("project", "name", tmp_path, {"run": {"steps": 3}}, resumed)
        sink.log(TRAIN)
        sink.log(REFRESH)
        ids.append(sink._run.id)
        assert (tmp_path / RUN_ID).read_text().strip() == ids[-1]
        sink.close()
        sink.close()
    assert ids[0] == ids[1] != ids[2]
    assert list(tmp_path.glob(f"wandb/offline-run-*-{ids[0]}/*.wandb"))


class Broken:
    def __init__(self):
        self.calls = 0

    def log(self, record):
        self.calls += 1
        raise ConnectionError("no network")

    def close(self):
        raise AssertionError("a sink that failed is not touched again")


def test_a_failure_is_said_once_and_the_run_goes_on():
    said = []
    broken = Broken()
    guarded = Guarded("log.wandb", lambda: broken, said.append)
    guarded.log(TRAIN)
    guarded.log(TRAIN)
    guarded.close()
    assert broken.calls == 1 and len(said) == 1
    assert "log.wandb" in said[0] and "ConnectionError: no network" in said[0]


def test_a_sink_that_cannot_start_is_left_out(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(wandb_sink, "WandbSink", fail)
    monkeypatch.setattr(sinks.tensorboard_sink, "TensorBoardSink", fail)
    said = []
    for sink in make_sinks(
        TrainConfig(log=LogConfig(wandb=True, tensorboard=True)), tmp_path, None, said.append
    ):
        sink.log(TRAIN)
        sink.close()
    assert [line.split(" failed")[0] for line in said] == ["log.wandb", "log.tensorboard"]


@pytest.mark.parametrize("package", ["wandb", "tensorboard"])
def test_a_missing_package_is_told_before_anything_is_built(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    check_sinks(TrainConfig())
    with pytest.raises(UserError, match=rf"pip install 'alphadecay\[{package}\]'"):
        check_sinks(TrainConfig(log=LogConfig(**{package: True})))
