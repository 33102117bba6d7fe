"""A checkpoint written beside the training that fails on two real ranks: its writer is killed in
the middle of a file, or its disk is full. Every rank is told, it is counted, the training is that
of an undisturbed run, the earlier checkpoint stays, and the next save works.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.distributed.harness import run_ranks
from tests.integration.ranks import make_trainer
from tests.integration.stopping import checkpoints
from tests.integration.watching import live, trained
from tests.waiting import until
from train.loop.run_status import read_state
from train.loop.trainer import Trainer

SPOILT = 3  # the step whose checkpoint fails
PIPE = 1 << 16  # bytes that a pipe takes in before who writes to it waits
ENGINES = {
    "zero1": ("--deepspeed.config", "ds_configs/zero1.json"),
    "fsdp2": ("--engine.kind", "fsdp2"),
}
# What rank 1 writes of the optimizer.
FILES = {"zero1": "zero_pp_rank_1_*optim_states.pt", "fsdp2": "__1_*.distcp"}


@dataclass(frozen=True)
class Seen:
    """What a rank and the disk know between two steps."""

    in_flight: int
    failures: int
    checkpoints: list[int]
    newest: int  # by the file that says how the run stands


def seen(trainer: Trainer) -> Seen:
    trainer.world.barrier()  # rank 0 notes a commit after the others know of it
    saver = trainer.saver
    there = checkpoints(trainer.folder)
    newest = int(read_state(trainer.folder)["step"])
    return Seen(saver.step_in_flight, saver.outcomes.failures, there, newest)


def writer() -> psutil.Process:
    """The process beside this rank."""
    (own,) = psutil.Process().children()
    return own


def pause(trainer: Trainer) -> None:
    """Have the writer do nothing yet of what it is about to be given."""
    own = writer()
    own.suspend()
    until(lambda: own.status() == psutil.STATUS_STOPPED)


def kill_in_a_file(trainer: Trainer, engine: str) -> None:
    """Kill rank 1's writer in a file, which is a pipe that takes in a part of it."""
    if trainer.world.rank == 1:
        before = trainer.folder / f"checkpoints/step-{SPOILT - 1:08d}/state"
        (file,) = before.glob(FILES[engine])
        assert file.stat().st_size > PIPE
        assert trainer.saver._in_flight is not None
        state = trainer.saver._in_flight.target.state
        state.mkdir(parents=True, exist_ok=True)
        os.mkfifo(state / file.name)
        own = writer()
        own.resume()
        with (state / file.name).open("rb", buffering=0) as pipe:
            assert pipe.read(1)
            own.kill()
    else:
        writer().resume()
    trainer.saver.settle()


def fill_the_disk(trainer: Trainer, engine: str) -> None:
    """Leave half of the room that a checkpoint takes, until its failure is told."""
    folder = trainer.folder / "checkpoints"
    ballast = folder / "ballast"
    if trainer.world.is_main:
        before = folder / f"step-{SPOILT - 1:08d}"
        needed = sum(file.stat().st_size for file in before.rglob("*") if file.is_file())
        ballast.write_bytes(bytes(shutil.disk_usage(folder).free - needed // 2))
    trainer.world.barrier()
    writer().resume()
    trainer.saver.settle()
    if trainer.world.is_main:
        ballast.unlink()
    trainer.world.barrier()


FAULTS: dict[str, Callable[[Trainer, str], None]] = {
    "killed": kill_in_a_file,
    "full": fill_the_disk,
}


def spoilt(
    rank: int, arguments: list[str], folder: str, engine: str, fault: str
) -> tuple[list[Seen], str]:
    """What was seen before the fault, after it and after the next save; and what was said."""

    def start(output: str, *more: str) -> Trainer:
        return make_trainer(rank, 2, [*arguments, "--output_dir", f"{folder}/{output}", *more])

    whole = trained(start("whole", "--checkpoint.async", "false", "--checkpoint.every", "0"))
    trainer = start("spoilt", "--checkpoint.async", "true", "--checkpoint.every", "1")
    found = []

    def after(step: int) -> None:
        if step == SPOILT:
            trainer.saver.settle()
            found.append(seen(trainer))
            pause(trainer)
        elif step == SPOILT + 1:
            assert trainer.saver.step_in_flight == SPOILT
            FAULTS[fault](trainer, engine)
            found.append(seen(trainer))
        elif step == SPOILT + 2:
            trainer.saver.settle()
            found.append(seen(trainer))

    said = io.StringIO()
    with redirect_stderr(said):
        assert trained(trainer, after) == whole
    for step in (SPOILT - 1, SPOILT + 1):
        if rank == 0:
            name = f"checkpoints/step-{step:08d}"
            shutil.copytree(f"{folder}/spoilt/{name}", f"{folder}/cut-{step}/{name}")
        trainer.world.barrier()
        resumed = start(f"cut-{step}", "--checkpoint.async", "false")
        assert (resumed.step, live(resumed)) == (step, whole[step])
        resumed.telemetry.close()
        resumed.saver.close()
    return found, said.getvalue()


def check(workplace: Any, folder: Path, engine: str, fault: str) -> str:
    """Have a save spoilt; return what rank 0 said."""
    arguments = [
        *("--config", str(workplace.recipe), *ENGINES[engine]),
        *("--data.directory", str(folder / "prepared"), "--checkpoint.keep", "0"),
    ]
    ranks = run_ranks(2, spoilt, arguments, str(folder), engine, fault)
    for found, _ in ranks:
        assert found == [
            Seen(-1, 0, [1, 2], 2),
            Seen(-1, 1, [1, 2], 2),
            Seen(-1, 1, [1, 2, 4], 4),
        ]
    assert checkpoints(folder / "spoilt") == [1, 2, 4, 5, 6]
    assert ranks[1][1] == ""
    told = str(ranks[0][1])
    assert told.count("NOT saved") == 1
    assert "(1 in a row, 1 in all); the run goes on" in told
    return told


@pytest.mark.parametrize("engine", FILES)
def test_a_writer_that_is_killed_in_a_file(workplace: Any, tmp_path: Path, engine: str) -> None:
    told = check(workplace, tmp_path, engine, "killed")
    assert f"step {SPOILT} was NOT saved: rank 1: the process that writes it was killed" in told


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder in which the checkpoints of the run "spoilt" have a disk of their own."""
    place = tmp_path / "spoilt/checkpoints"
    place.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip()}")
    yield tmp_path
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("engine", FILES)
def test_a_disk_that_is_full(workplace: Any, small_disk: Path, engine: str) -> None:
    told = check(workplace, small_disk, engine, "full")
    assert f"step {SPOILT} was NOT saved: rank " in told
    assert "No space left on device" in told and "free in" in told
