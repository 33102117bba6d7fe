"""Saves beside the training: one in flight, its outcome told and counted like any other's, and
nothing of it where there is too little memory.
"""

from __future__ import annotations

import json
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from tests.unit.train.checkpoint.saving import WORLD, engine, identity, steps
from tests.waiting import until
from train import checkpoint
from train.checkpoint import host_room, saver, write
from train.checkpoint.host_room import HostRoom, why_no_room
from train.config import CheckpointConfig
from train.errors import UserError
from train.system.lease import LeaseLost

GB = 10**9


def writers() -> list[psutil.Process]:
    """The processes beside this one that write checkpoints; other tests leave others."""
    return [
        child
        for child in psutil.Process().children()
        if any("writer_process" in part for part in child.cmdline())
    ]


class Run:
    """A Saver and what it tells."""

    def __init__(self, folder: Path, choice: Any = True, **settings: Any) -> None:
        self.saved: list[int] = []
        config = CheckpointConfig(asynchronous=choice, **settings)
        self.saver = checkpoint.Saver(config, folder, engine(), identity(), WORLD)
        self.saver.outcomes.on_saved = lambda saved: self.saved.append(saved.step)

    def process(self) -> psutil.Process:
        (own,) = writers()
        return own

    def boundary(self) -> None:
        """What comes after a step."""
        if self.saver.part_is_over():
            self.saver.advance()


@pytest.fixture
def start(tmp_path: Path) -> Any:
    runs = []

    def make(choice: Any = True, **settings: Any) -> Run:
        runs.append(Run(tmp_path / "checkpoints", choice, **settings))
        return runs[-1]

    yield make
    for run in runs:
        run.saver.close()
    assert writers() == []


def until_saved(run: Run, step: int) -> None:
    def done() -> bool:
        run.boundary()
        return step in run.saved

    until(done, f"checkpoint {step}")


def test_it_is_there_some_steps_later(start: Any, tmp_path: Path) -> None:
    run = start()
    own = {"state": torch.arange(5.0)}
    assert run.saver.save(1, {}, own) is None
    assert run.saver.step_in_flight == 1
    assert steps(tmp_path / "checkpoints") == []
    until_saved(run, 1)
    assert run.saver.step_in_flight == -1 and not run.saver.part_is_over()
    path = tmp_path / "checkpoints/step-00000001"
    assert checkpoint.find("auto", path.parent, lambda text: None).path == path
    assert (path.parent / "latest").read_text() == "step-00000001\n"
    loaded = torch.load(path / "state/own_rank_00000.pt", weights_only=True)
    assert loaded["state"].equal(own["state"])
    manifest = json.loads((path / "manifest.json").read_text())
    assert sorted(manifest["files"]) == [
        "state/own_rank_00000.pt",
        "state/rank_0.pt",
        "state/rank_1.pt",
    ]
    assert manifest["commit"] == 1 and manifest["world_size"] == 2


@contextmanager
def going_on_once(process: psutil.Process, condition: Callable[[], object]) -> Iterator[None]:
    """Stop a process, and let it go on once the condition holds, whatever this thread waits for."""
    process.suspend()
    thread = threading.Thread(target=lambda: (until(condition), process.resume()))
    thread.start()
    yield
    thread.join()


def test_the_next_waits_for_the_one_in_flight_and_says_so_once(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(saver, "print", lambda text, **_: said.append(text), raising=False)
    run = start(keep=2)
    run.saver.save(1, {})
    with going_on_once(run.process(), lambda: said):
        run.saver.save(2, {})
    assert run.saved == [1] and run.saver.step_in_flight == 2
    run.saver.save(3, {})
    run.saver.settle()
    assert run.saved == [1, 2, 3]
    assert len(said) == 1 and said[0].startswith("a save waits for that of step 1")


def test_the_last_is_written_at_once_after_the_one_in_flight(start: Any, tmp_path: Path) -> None:
    run = start(keep=1)
    run.saver.save(1, {})
    assert run.saver.save(2, {}, last=True) == tmp_path / "checkpoints/step-00000002"
    assert run.saved == [1, 2] and steps(tmp_path / "checkpoints") == [2]


def test_older_ones_are_pruned_by_the_commit(start: Any, tmp_path: Path) -> None:
    run = start(keep=1)
    for step in (1, 2):
        run.saver.save(step, {})
        until_saved(run, step)
    assert steps(tmp_path / "checkpoints") == [2]
    run.saver.save(3, {}, prunes=False)
    until_saved(run, 3)
    assert steps(tmp_path / "checkpoints") == [2, 3]


def until_failed(run: Run, failures: int) -> None:
    def done() -> bool:
        run.boundary()
        return run.saver.outcomes.failures == failures

    until(done, f"failure {failures}")


def test_failures_are_told_and_counted_and_too_many_end_the_run(
    start: Any, tmp_path: Path, capsys: Any
) -> None:
    run = start(max_failures=2)
    run.saver.save(1, {})
    until_saved(run, 1)
    process = run.process()
    whole = resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (10, -1))
    run.saver.save(2, {})
    until_failed(run, 1)
    said = capsys.readouterr().err
    assert "step 2 was NOT saved: rank 0: File too large (" in said
    assert "(1 in a row, 1 in all); the run goes on" in said
    assert names(tmp_path) == ["latest", "step-00000001"]

    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, whole)
    run.saver.save(3, {})
    until_saved(run, 3)  # the row is broken
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (10, -1))
    run.saver.save(4, {})
    until_failed(run, 2)
    run.saver.save(5, {})
    with pytest.raises(UserError, match=r"step 5 was NOT saved.*2 in a row.*the newest in"):
        until_failed(run, 4)
    assert names(tmp_path) == ["latest", "step-00000001", "step-00000003"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_one_that_failed_before_the_last_is_borne_and_the_last_is_written(
    start: Any, tmp_path: Path, capsys: Any
) -> None:
    run = start(max_failures=1)
    run.saver.save(1, {})
    run.process().kill()
    assert run.saver.save(2, {}, last=True) is not None
    assert "the process that writes it was killed by SIGKILL" in capsys.readouterr().err
    assert run.saved == [2]


def test_a_killed_process_costs_one_checkpoint(start: Any, tmp_path: Path, capsys: Any) -> None:
    run = start()
    run.saver.save(1, {})
    run.process().kill()
    until_failed(run, 1)
    assert "step 1 was NOT saved: rank 0: the process that" in capsys.readouterr().err
    run.saver.save(2, {})
    until_saved(run, 2)
    assert names(tmp_path) == ["latest", "step-00000002"]


def test_a_state_that_cannot_be_taken_is_a_failure(start: Any, tmp_path: Path) -> None:
    run = start()
    assert run.saver.save(1, {}, {"no pickle": lambda: None}) is None
    assert run.saver.outcomes.failures == 1 and run.saver.step_in_flight == -1
    assert names(tmp_path) == []


def test_a_commit_that_fails_is_a_failure(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def stale(source: Path, target: Path) -> None:
        raise OSError(116, "Stale file handle")

    run = start()
    with monkeypatch.context() as patch:
        patch.setattr(write.os, "rename", stale)
        run.saver.save(1, {})
        until_failed(run, 1)
    assert "step 1 was NOT saved: Stale file handle" in capsys.readouterr().err
    assert names(tmp_path) == []


def test_nothing_is_committed_once_another_job_has_the_folder(tmp_path: Path) -> None:
    def lost() -> None:
        raise LeaseLost("output_dir was taken over")

    lease: Any = SimpleNamespace(nonce="mine", check=lost)
    own = checkpoint.Saver(
        CheckpointConfig(asynchronous=True),
        tmp_path / "checkpoints",
        engine(),
        identity(),
        WORLD,
        lease,
    )
    own.save(1, {})
    with pytest.raises(UserError, match="taken over"):
        own.settle()
    assert names(tmp_path) == [] and own.outcomes.failures == 0
    own.close()


@pytest.mark.parametrize(
    ("choice", "left", "asynchronous"),
    [
        (True, 1 << 30, True),
        (True, 1 << 20, False),
        ("auto", 1 << 30, False),  # a tenth of the host's memory stays free
        ("auto", 4 << 30, True),
        (False, 4 << 30, False),
    ],
)
def test_without_room_for_the_copies_a_save_is_a_plain_one(
    start: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
    choice: Any,
    left: int,
    asynchronous: bool,
) -> None:
    monkeypatch.setattr(host_room, "memory_left", lambda: left)
    monkeypatch.setattr(host_room, "host_memory", lambda: 20 << 30)
    run = start(choice)
    for step in (1, 2):
        begun = run.saver.save(step, {}, {"state": torch.ones(5)}) is None
        assert begun == asynchronous
        run.saver.settle()
    assert run.saved == [1, 2]
    said = capsys.readouterr().out
    assert said.count("saves stop the training, for") == (not asynchronous and choice is not False)


def test_where_the_room_is_gone_later_the_memory_is_given_back(
    start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = start()
    run.saver.save(1, {})
    run.saver.settle()
    process = run.process()
    monkeypatch.setattr(host_room, "memory_left", lambda: 0)
    larger = {"state": torch.ones(8 << 20, dtype=torch.uint8)}
    assert run.saver.save(2, {}, larger) is not None
    assert not process.is_running() and run.saved == [1, 2]


def test_one_rank_that_cannot_share_memory_decides_for_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world: Any = SimpleNamespace(**vars(WORLD) | {"gather": lambda value: [value, False]})
    config = CheckpointConfig(asynchronous=True)
    own = checkpoint.Saver(config, tmp_path / "checkpoints", engine(), identity(), world)
    assert not own._async.wanted


def test_the_room_is_that_of_a_host_for_all_of_its_ranks() -> None:
    rooms = [HostRoom(host, 3 * GB, 10 * GB, 16 * GB) for host in "aaab"]
    assert why_no_room(rooms, 0.0) == ""
    assert why_no_room(rooms, 0.1) == (
        "a has 10.0 GB of memory left, and a copy of the state of 3 ranks takes 9.0 GB "
        "(1.6 GB stay free)"
    )
    assert why_no_room(rooms[2:], 0.1) == ""
    tight = HostRoom("b", 11 * GB, 10 * GB, 16 * GB)
    assert why_no_room([rooms[0], tight], 0.0) == (
        "b has 10.0 GB of memory left, and a copy of the state of 1 rank takes 11.0 GB"
    )
    # what was taken before is not asked for again
    assert why_no_room([HostRoom("a", 0, 0, 16 * GB)], 0.1) == ""
