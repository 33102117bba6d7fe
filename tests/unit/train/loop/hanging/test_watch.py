"""A loop that stands still is written down in time, and no other."""

from __future__ import annotations

import json
import threading

import pytest
import torch

from tests.waiting import until
from train.cluster.distributed import World
from train.loop.hanging import evidence
from train.loop.hanging.watch import HangWatch
from train.telemetry.clock import StepClock

WORLD = World(1, 1, 2, torch.device("cpu"))
LIMIT = 0.4


def watch(folder, clock, limit=LIMIT):
    return HangWatch(
        folder / "hang" / "now",
        WORLD,
        limit,
        lambda: clock.moved,
        lambda: {"step": 3, "part": clock.at},
    )


@pytest.fixture
def clock():
    return StepClock(torch.device("cpu"))


def test_a_loop_that_stands_still_says_where_and_is_forgotten_when_it_goes_on(tmp_path, clock):
    path = tmp_path / "hang/now/rank-1.json"
    with watch(tmp_path, clock):
        with clock.part("data"):
            until(path.exists)
            told = json.loads(path.read_text())
        with clock.part("step"):
            until(lambda: not (tmp_path / "hang").exists())
    assert (told["rank"], told["world_size"], told["step"], told["part"]) == (1, 2, 3, "data")
    assert told["still_seconds"] >= LIMIT * 3 / 4 and told["limit_seconds"] == LIMIT
    main = told["threads"][0]
    assert main["main"] and [__file__, "until"] == [
        next(frame[0] for frame in main["frames"] if frame[0] == __file__),
        main["frames"][0][2],
    ]


def test_it_is_written_again_while_it_stands(tmp_path, clock):
    path = tmp_path / "hang/now/rank-1.json"
    with watch(tmp_path, clock):
        until(path.exists)
        first = json.loads(path.read_text())["still_seconds"]
        until(lambda: json.loads(path.read_text())["still_seconds"] > first)
    assert not path.exists()  # the loop came to its end


def test_what_was_written_stays_where_the_hang_ends_the_run(tmp_path, clock):
    path = tmp_path / "hang/now/rank-1.json"
    with (
        pytest.raises(RuntimeError, match="Timed out"),
        watch(tmp_path, clock),
        clock.part("step"),
    ):
        until(path.exists)
        raise RuntimeError("Timed out waiting")
    assert json.loads(path.read_text())["part"] == "step"


def test_the_exception_of_a_timeout_that_comes_before_the_thread_is_written(tmp_path, clock):
    path = tmp_path / "hang/now/rank-1.json"
    late = watch(tmp_path, clock)
    late._pause = 1e9  # a machine so busy that its thread does not run

    def wait_in_vain() -> None:
        until(lambda: late._still() > LIMIT)
        raise RuntimeError("Timed out waiting")

    with pytest.raises(RuntimeError), late, clock.part("step"):
        wait_in_vain()
    (main,) = json.loads(path.read_text())["threads"]
    assert main["main"] and main["frames"][0][2] == "wait_in_vain"


def test_an_error_of_a_loop_that_moves_is_no_hang(tmp_path, clock):
    with pytest.raises(ValueError, match="bad"), watch(tmp_path, clock, 1e9), clock.part("data"):
        raise ValueError("bad")
    assert list(tmp_path.iterdir()) == []
    assert not [t for t in threading.enumerate() if t.name == "hang watch"]


def test_a_folder_that_cannot_be_written_stops_no_run(tmp_path, clock):
    (tmp_path / "hang").write_text("a file")
    quiet = watch(tmp_path, clock)
    with quiet, clock.part("data"):
        until(lambda: quiet._written)


def test_a_device_that_does_not_answer_does_not_keep_the_process(tmp_path, clock, monkeypatch):
    answers = threading.Event()
    monkeypatch.setattr(evidence, "collectives", lambda: answers.wait(30) and [])
    path = tmp_path / "hang/now/rank-1.json"
    own = watch(tmp_path, clock)
    with pytest.raises(RuntimeError, match="Timed out"), own:
        until(path.exists)
        raise RuntimeError("Timed out waiting")
    assert own._thread.is_alive() and path.exists()
    answers.set()
    own._thread.join()
