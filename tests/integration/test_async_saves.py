"""A checkpoint that is written while the training goes on is the state of its step, and a run that
goes on from it is the run that was never cut.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.distributed.harness import run_ranks
from tests.integration.program import STEPS
from tests.integration.ranks import make_trainer
from tests.integration.stopping import checkpoints
from tests.integration.watching import live, trained
from tests.waiting import until
from train.loop.run_status import read_state
from train.loop.trainer import Trainer

HELD = 4  # the step whose checkpoint is written only after the next step
ENGINES = {
    "zero1": ("--deepspeed.config", "ds_configs/zero1.json"),
    "zero3": ("--deepspeed.config", "ds_configs/zero3.json"),
    "fsdp2": ("--engine.kind", "fsdp2"),
}


Hashes = dict[int, str]


def whole_and_cut(rank: int, arguments: list[str], folder: str) -> tuple[Hashes, Hashes]:
    """Hashes by step of a run, and of one that goes on from a checkpoint that was written late."""

    def start(output: str, *more: str) -> Trainer:
        return make_trainer(rank, 2, [*arguments, "--output_dir", f"{folder}/{output}", *more])

    whole = trained(start("whole", "--checkpoint.async", "false", "--checkpoint.every", "0"))
    trainer = start("late", "--checkpoint.async", "true", "--checkpoint.every", "2")
    assert trained(trainer, lambda step: hold_writer(trainer, step)) == whole
    if rank == 0:
        name = f"checkpoints/step-{HELD:08d}"
        shutil.copytree(f"{folder}/late/{name}", f"{folder}/cut/{name}")
    trainer.world.barrier()
    trainer = start("cut", "--checkpoint.async", "false")
    cut = {trainer.step: live(trainer)}
    return whole, cut | trained(trainer)


def hold_writer(trainer: Trainer, step: int) -> None:
    """Let the checkpoint of HELD be written only once the next step was taken."""
    saver = trainer.saver
    if step == HELD - 1:
        saver.settle()
        for process in psutil.Process().children():
            process.suspend()
            until(lambda own=process: own.status() == psutil.STATUS_STOPPED)
    if step == HELD + 1:
        assert saver.step_in_flight == HELD and not saver.part_is_over()
        if trainer.world.is_main:
            assert read_state(trainer.folder)["step"] == HELD - 2
        for process in psutil.Process().children():
            process.resume()


@pytest.mark.parametrize("engine", ENGINES)
def test_it_is_the_state_of_its_step_and_goes_on_bit_for_bit(
    workplace: Any, tmp_path: Path, engine: str
) -> None:
    arguments = [
        *("--config", str(workplace.recipe), *ENGINES[engine]),
        *("--data.directory", str(tmp_path / "prepared"), "--checkpoint.keep", "0"),
    ]
    for whole, cut in run_ranks(2, whole_and_cut, arguments, str(tmp_path)):
        assert list(cut) == [HELD, HELD + 1, STEPS]
        assert cut == {step: whole[step] for step in cut}
        assert len(set(whole.values())) == STEPS
    assert checkpoints(tmp_path / "late") == [2, HELD, STEPS]
    assert read_state(tmp_path / "late")["step"] == STEPS
