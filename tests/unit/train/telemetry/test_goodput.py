"""Goodput from attempts: wall time by part, over starts that ended in all ways."""

from __future__ import annotations

import json
import math

import pytest

from alphadecay.inspect.run.goodput import goodput, read_attempts
from train.telemetry.attempts import AttemptLog


class Clock:
    """A clock that moves only when told."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock():
    """Shared by all attempts of a test."""
    return Clock()


def attempt(folder, clock, first_step, start, anew=False, job=None):
    """An attempt whose start takes so many seconds, in the loop."""
    job = clock.time if job is None else job
    clock.time += start
    log = AttemptLog(folder / "attempts.jsonl", first_step, anew, pytest.fail, clock)
    log.loop_begins(job)
    log.open()
    return log


def spend(log, clock, **seconds):
    clock.time += sum(seconds.values())
    log.add(seconds)


def steps(log, clock, last, count=1):
    """Steps of 2 seconds each, half a second of it waiting for data; a sign after each."""
    for step in range(last - count + 1, last + 1):
        spend(log, clock, forward_backward=1.0, step=0.5, data=0.5)
        log.note(step)


def test_one_attempt_that_ended_well(tmp_path, clock):
    log = attempt(tmp_path, clock, 0, 10.0)
    spend(log, clock, evaluation=3.0, compiling=7.0)
    steps(log, clock, 4, 4)
    spend(log, clock, refresh=1.0, checkpoint=2.0)
    clock.time += 0.25  # in no part
    log.note(4)
    log.close()
    found = goodput(read_attempts(tmp_path / "attempts.jsonl"))
    assert found == {
        "share": 6.0 / 31.25,
        "wall_seconds": 31.25,
        "between_seconds": 0.0,
        "attempts": 1,
        "lost_steps": 0,
        "first_step": 0,
        "seconds": {
            "start": 10.0,
            "training": 6.0,
            "data_wait": 2.0,
            "refresh": 1.0,
            "evaluation": 3.0,
            "compile": 7.0,
            "save_stall": 2.0,
            "lost": 0.0,
            "other": 0.25,
        },
    }


def test_steps_after_the_checkpoint_are_lost_where_they_are_done_again(tmp_path, clock):
    killed = attempt(tmp_path, clock, 0, 10.0)
    steps(killed, clock, 3, 3)
    killed.note(3)  # the state of a checkpoint
    spend(killed, clock, checkpoint=5.0)
    steps(killed, clock, 6, 3)
    clock.time += 1.5  # then killed: of that there is no sign
    clock.time += 100.0
    again = attempt(tmp_path, clock, 3, 8.0)
    steps(again, clock, 8, 5)
    again.close()
    found = goodput(read_attempts(tmp_path / "attempts.jsonl"))
    assert (found["attempts"], found["lost_steps"]) == (2, 3)
    assert found["between_seconds"] == 101.5
    assert found["wall_seconds"] == 10.0 + 12.0 + 5.0 + 8.0 + 10.0
    seconds = found["seconds"]
    assert seconds["start"] == 18.0 and seconds["save_stall"] == 5.0
    assert seconds["training"] == 8 * 1.5 and seconds["data_wait"] == 8 * 0.5
    assert seconds["lost"] == 3 * 2.0 and seconds["other"] == 0.0
    assert math.fsum(seconds.values()) == found["wall_seconds"]


def test_a_later_return_to_an_older_checkpoint_loses_whole_attempts(tmp_path, clock):
    first = attempt(tmp_path, clock, 0, 1.0)
    steps(first, clock, 4, 4)
    second = attempt(tmp_path, clock, 4, 1.0)
    steps(second, clock, 8, 4)
    third = attempt(tmp_path, clock, 2, 1.0)
    steps(third, clock, 10, 8)
    found = goodput(read_attempts(tmp_path / "attempts.jsonl"))
    assert found["lost_steps"] == 2 + 4 and found["seconds"]["lost"] == 12.0
    assert found["seconds"]["training"] == 10 * 1.5


def test_a_start_afresh_without_a_checkpoint_loses_all(tmp_path, clock):
    steps(attempt(tmp_path, clock, 0, 1.0), clock, 3, 3)
    steps(attempt(tmp_path, clock, 0, 1.0), clock, 2, 2)
    found = goodput(read_attempts(tmp_path / "attempts.jsonl"))
    assert found["lost_steps"] == 3 and found["seconds"]["training"] == 3.0


def test_resume_never_begins_another_run(tmp_path, clock):
    steps(attempt(tmp_path, clock, 0, 1.0), clock, 3, 3)
    steps(attempt(tmp_path, clock, 0, 1.0, anew=True), clock, 2, 2)
    found = goodput(read_attempts(tmp_path / "attempts.jsonl"))
    assert (found["attempts"], found["lost_steps"]) == (1, 0)
    assert len(read_attempts(tmp_path / "attempts.jsonl.previous")) == 1


def test_a_launcher_that_starts_its_ranks_again_leaves_nothing_between(tmp_path, clock):
    job = clock.time
    steps(attempt(tmp_path, clock, 0, 10.0, job=job), clock, 2, 2)
    clock.time += 30.0  # it notices the death
    steps(attempt(tmp_path, clock, 2, 5.0, job=job), clock, 4, 2)
    found = goodput(read_attempts(tmp_path / "attempts.jsonl"))
    assert found["between_seconds"] == 0.0 and found["seconds"]["start"] == 45.0
    assert found["wall_seconds"] == clock.time - job


def test_a_line_cut_by_a_kill_costs_that_line_alone(tmp_path, clock):
    path = tmp_path / "attempts.jsonl"
    steps(attempt(tmp_path, clock, 0, 1.0), clock, 2, 2)
    path.write_bytes(path.read_bytes()[:-20])
    steps(attempt(tmp_path, clock, 1, 1.0), clock, 3, 2)
    found = read_attempts(path)
    assert [one.last.step for one in found] == [1, 3]
    lines = path.read_text().splitlines()
    assert sum(not line.endswith("}}") for line in lines if "began" not in line) == 1
    assert goodput(found)["lost_steps"] == 0


def test_a_run_taken_over_from_a_version_without_the_file(tmp_path, clock):
    steps(attempt(tmp_path, clock, 300, 1.0), clock, 302, 2)
    found = goodput(read_attempts(tmp_path / "attempts.jsonl"))
    assert found["first_step"] == 300 and found["seconds"]["training"] == 3.0


def test_no_file_and_foreign_lines_are_no_attempts(tmp_path):
    assert goodput(read_attempts(tmp_path / "attempts.jsonl")) is None
    foreign = [{"attempt": 1, "time": 1.0, "step": 2, "seconds": {}}, {}, 3]
    (tmp_path / "attempts.jsonl").write_text("".join(json.dumps(x) + "\n" for x in foreign))
    assert read_attempts(tmp_path / "attempts.jsonl") == []


def test_nothing_is_written_before_the_first_step_is_over(tmp_path, clock):
    log = AttemptLog(tmp_path / "attempts.jsonl", 0, True, pytest.fail, clock)
    log.loop_begins(clock.time - 4.0)
    log.note(0)
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_written_stops_no_run(tmp_path, clock):
    said = []
    log = AttemptLog(tmp_path / "gone" / "attempts.jsonl", 0, False, said.append, clock)
    log.open()
    log.note(1)
    log.close()
    assert len(said) == 2 and "its lines wait in memory" in said[0]
