"""How a run stands: by its state, its leases and its job; and what may not share its folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.leases import held_by_another
from tests.unit.train.experiments.sweeps.sweeping import planned
from train.config.command_line import dump_config
from train.errors import UserError
from train.experiments.sweeps.sweep_status import (
    LEASE,
    RunStatus,
    differences,
    modified_ns,
    refuse_mixtures,
    run_status,
    take_run,
    write_job,
)
from train.loop.run_status import write_state
from train.system.lease_files import NAME


def nothing() -> set[str]:
    return set()


def never() -> set[str]:
    raise AssertionError("asked SLURM about a run that it never had")


def test_by_its_state(tmp_path: Path) -> None:
    assert run_status(tmp_path / "nowhere", never) == RunStatus("missing")
    write_state(tmp_path, "stopped", step=5, reason="SIGTERM")
    assert run_status(tmp_path, never) == RunStatus("stopped", 5, "SIGTERM")
    write_state(tmp_path, "running", step=6, reason="")
    assert run_status(tmp_path, never) == RunStatus("stopped", 6, "killed")  # nobody has it
    write_state(tmp_path, "failed", step=7, reason="the disk is full")
    assert run_status(tmp_path, never) == RunStatus("failed", 7, "the disk is full")
    write_state(tmp_path, "finished", step=9, reason="")
    assert run_status(tmp_path, never) == RunStatus("finished", 9)


def test_by_its_job(tmp_path: Path) -> None:
    write_job(tmp_path, "12_1", modified_ns(tmp_path))
    assert run_status(tmp_path, lambda: {"12_1"}) == RunStatus("queued", 0, "job 12_1")
    assert run_status(tmp_path, nothing) == RunStatus(
        "failed", 0, "job 12_1 ended before the run began; its output says why"
    )
    write_state(tmp_path, "running", step=4)
    assert run_status(tmp_path, lambda: {"12_1"}) == RunStatus("running", 4, "job 12_1")
    assert run_status(tmp_path, nothing) == RunStatus("stopped", 4, "killed")
    write_state(tmp_path, "stopped", step=5, reason="SIGUSR1")
    assert run_status(tmp_path, lambda: {"12_1"}) == RunStatus("queued", 5, "job 12_1")  # requeued
    assert run_status(tmp_path, nothing) == RunStatus("stopped", 5, "SIGUSR1")
    # submitted again, and what state.json says is older
    write_job(tmp_path, "13_1", modified_ns(tmp_path))
    assert run_status(tmp_path, nothing).state == "failed"
    write_state(tmp_path, "finished", step=9)
    assert run_status(tmp_path, nothing).state == "finished"


@pytest.mark.parametrize("name", [LEASE, NAME])
def test_a_sweep_or_a_program_that_lives_has_the_run(tmp_path: Path, name: str) -> None:
    assert run_status(tmp_path, never) == RunStatus("missing")
    write_state(tmp_path, "running", step=9)
    with held_by_another(tmp_path, name):
        assert run_status(tmp_path, never) == RunStatus("running", 9)
        # the right to start it is the sweep's; its program has a right of its own
        assert (take_run(tmp_path, print) is None) == (name == LEASE)
        assert (run_status(tmp_path, never, ours=True).state == "running") == (name == NAME)
    assert run_status(tmp_path, never, ours=True) == RunStatus("stopped", 9, "killed")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write to .*file/run: .*another --root"):
        take_run(tmp_path / "file" / "run", print)


def test_other_settings_do_not_share_a_folder_other_ways_to_compute_do(tmp_path: Path) -> None:
    first = planned(tmp_path)
    for run in first[:2]:
        run.run.folder.mkdir(parents=True)
        (run.run.folder / "config.yaml").write_text(dump_config(run.config))
    refuse_mixtures(first)
    how = {
        "run.micro_batch": "4",
        "log.every": "7",
        "deepspeed.config": "ds_configs/zero0.json",
        "model.compile": "true",
    }
    refuse_mixtures(planned(tmp_path, **how))
    others = planned(tmp_path, **{"optim.lr": "0.5", "run.steps": "30"})
    assert (
        differences(others[0]) == ["optim.lr was 0.002, is 0.5", "run.steps was 20, is 30"]
        and differences(others[2]) == []
    )
    message = (
        "seed-1 has a run with other settings .and so have 1 other folders.: "
        "optim.lr was 0.002, is 0.5; run.steps.*--root"
    )
    with pytest.raises(UserError, match=message):
        refuse_mixtures(others)


def test_a_base_that_the_run_settled_itself_is_no_other_setting(tmp_path: Path) -> None:
    auto = {"decay.base": "auto"}
    (run, *_) = planned(tmp_path, **auto)
    run.run.folder.mkdir(parents=True)
    settled = replace(run.config, optim=replace(run.config.optim, weight_decay=1.96))
    (run.run.folder / "config.yaml").write_text(dump_config(settled))
    assert differences(run) == []
    (given, *_) = planned(tmp_path)
    assert "decay.base was auto, is given" in differences(given)
    (other, *_) = planned(tmp_path, **auto, **{"optim.lr": "0.5"})
    assert differences(other) == ["optim.lr was 0.002, is 0.5"]


def test_a_folder_of_another_version_is_told_like_other_settings(tmp_path: Path) -> None:
    runs = planned(tmp_path)
    folder = runs[0].run.folder
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("optim:\n  lookahead: 0.9\n")
    (folder / "state.json").write_text('{"state": "stopped", "step": "x"}')
    (found,) = differences(runs[0])
    assert found.startswith("its settings cannot be read: ") and "optim.lookahead" in found
    with pytest.raises(
        UserError,
        match=r"seed-1 has a run with other settings: its settings cannot be read.*--root",
    ):
        refuse_mixtures(runs)
    assert run_status(folder, set) == RunStatus("stopped", 0)


def test_overrides_that_the_program_refuses(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"three, Uniform at 7M: run.steps must be an integer, not 'many'"
    ):
        planned(tmp_path, **{"run.steps": "many"})
