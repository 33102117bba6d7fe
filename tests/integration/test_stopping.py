"""Asked to stop, a run saves once, leaves no process behind, says so, and goes on when started
again as if nothing had been.
"""

from __future__ import annotations

import json
import os
import signal

import pytest

from tests.forked import wait_for_ranks
from tests.integration.comparing import assert_same_run
from tests.integration.program import STEPS, fork_ranks, metrics
from tests.integration.stopping import (
    HELD,
    checkpoints,
    expect_stop,
    fingerprint,
    held,
    held_ranks,
)
from tests.waiting import PATIENCE, until
from train.loop.run_status import main as state_of
from train.loop.run_status import read_state

GONE = "the launcher is gone"
# Where a run of 6 steps is held, with a refresh after steps 2 and 5, validations at 0, 3 and 6, and
# the step at which it then ends.
PHASES = {"step:4": 2, "data:2": 2, "refresh:2": 2, "evaluation:2": 3, "saving:1": 3}
LAST = f"checkpoints/step-{STEPS:08d}"


def arguments(workplace, tmp_path, *more):
    return ("--config", str(workplace.recipe), "--output_dir", str(tmp_path / "run"), *more)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["deepspeed", "torchrun"])
@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("engine", ["deepspeed", "fsdp2"])
def test_the_matrix(workplace, finished, tmp_path, engine, launcher, name, phase):
    whole = finished(engine)
    run = tmp_path / "run"
    every = "3" if phase.startswith("saving") else "0"
    start = arguments(workplace, tmp_path, "--engine.kind", engine, "--checkpoint.every", every)
    stopped = held(tmp_path, launcher, *start, at=phase, send=getattr(signal, name))
    # torchrun passes SIGTERM on to its ranks; the other three end the launcher and leave the ranks
    # to themselves.
    expect_stop(
        run, PHASES[phase], name if (launcher, name) == ("torchrun", "SIGTERM") else GONE, stopped
    )
    assert checkpoints(run) == [PHASES[phase]], stopped.output
    assert state_of([str(run)]) == 75
    resumed = held(tmp_path, launcher, *start)
    assert resumed.code == 0 and state_of([str(run)]) == 0, resumed.output
    assert_same_run(run, whole)
    assert fingerprint(run / LAST) == fingerprint(whole / LAST)


@pytest.mark.slow
def test_torchrun_that_is_told_to_pass_sigusr1_on(workplace, tmp_path):
    options = ("--signals-to-handle", "SIGTERM,SIGUSR1", "--shutdown-timeout", "600")
    stopped = held(
        tmp_path,
        "torchrun",
        *arguments(workplace, tmp_path),
        at="step:4",
        send=signal.SIGUSR1,
        options=options,
    )
    expect_stop(tmp_path / "run", 2, "SIGUSR1", stopped)
    assert checkpoints(tmp_path / "run") == [2]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["deepspeed", "torchrun"])
def test_while_the_corpus_is_prepared_there_is_nothing_to_save(workplace, tmp_path, launcher):
    start = arguments(workplace, tmp_path, "--data.directory", str(tmp_path / "prepared"))
    stopped = held(tmp_path, launcher, *start, at="preparation:1", send=signal.SIGTERM)
    assert "stopped before the first step" in stopped.output, stopped.output
    assert (
        checkpoints(tmp_path / "run") == [] and read_state(tmp_path / "run")["state"] == "stopped"
    )
    assert "Traceback" not in stopped.output.split("stopped before")[0]


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "code"), [("deepspeed", 75), ("torchrun", 0)])
def test_launchers_end_with_the_code_of_a_stop(workplace, tmp_path, launcher, code):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/stop").touch()
    stopped = held(tmp_path, launcher, *arguments(workplace, tmp_path))
    state = read_state(tmp_path / "run")
    assert (state["state"], state["step"], state["reason"], state["checkpoint"]) == (
        "stopped",
        0,
        "stop file",
        None,
    ), stopped.output
    assert (
        stopped.code == code
        and not (tmp_path / "run/stop").exists()
        and checkpoints(tmp_path / "run") == []
    ), stopped.output


def test_one_process_is_stopped_by_a_signal_a_file_and_the_clock_and_then_ends(
    workplace, finished, tmp_path
):
    whole = finished("python")
    run = tmp_path / "run"
    start = arguments(workplace, tmp_path)
    # four micro batches a step: in step 2
    first = held(tmp_path, "python", *start, at="step:6", send=signal.SIGINT)
    expect_stop(run, 2, "SIGINT", first)
    assert first.code == 75 and checkpoints(run) == [2]

    (run / "stop").touch()
    second = held_ranks(tmp_path, 1, *start)
    expect_stop(run, 2, "stop file", second, at_start=True)
    assert second.code == 75 and not (run / "stop").exists() and checkpoints(run) == [2]

    third = held_ranks(tmp_path, 1, *start, "--run.max_hours", "1e-6")
    expect_stop(run, 2, "run.max_hours", third, at_start=True)
    assert third.code == 75

    # in the last step but one
    call = 4 * (STEPS - 4) + 2
    last = held_ranks(tmp_path, 1, *start, at=f"step:{call}", send=signal.SIGTERM)
    expect_stop(run, STEPS - 1, "SIGTERM", last)
    # in the last: there is nothing left to stop
    end = held_ranks(tmp_path, 1, *start, at="step:2", send=signal.SIGTERM)
    assert end.code == 0 and read_state(run)["state"] == "finished", end.output
    assert_same_run(run, whole)
    assert fingerprint(run / LAST) == fingerprint(whole / LAST)


def test_a_stop_whose_save_fails_goes_on_from_the_checkpoint_before(workplace, finished, tmp_path):
    run = tmp_path / "run"
    notes = tmp_path / "notes"
    notes.mkdir()
    log = tmp_path / "log"
    log.touch()
    saves = ("--checkpoint.every", "1", "--checkpoint.async", "false")  # that of step 2 is there
    start = arguments(workplace, tmp_path, *saves)
    more = {"HELD_IN": str(notes), "HELD_AT": "step:10"}  # four micro batches a step: in step 3
    [rank] = fork_ranks(1, tmp_path, log, HELD, *start, **more)
    until((notes / "reached").exists, log.read_text)
    kept = (run / "checkpoints").rename(tmp_path / "kept")
    (run / "checkpoints").touch()  # no folder can be made there
    os.kill(rank.pid, signal.SIGTERM)
    assert wait_for_ranks([rank], PATIENCE) == 75, log.read_text()
    said = log.read_text()
    assert "warning: the checkpoint of step 3 was NOT saved" in said and "Traceback" not in said
    state = read_state(run)
    assert (state["state"], state["step"], state["reason"]) == ("stopped", 2, "SIGTERM")
    assert state["checkpoint"].endswith("step-00000002")

    (run / "checkpoints").unlink()
    kept.rename(run / "checkpoints")
    again = held_ranks(tmp_path, 1, *start)
    assert again.code == 0 and "step-00000002, step 2 of" in again.output, again.output
    assert_same_run(run, finished("python"))


def test_too_many_skipped_steps_end_the_run_with_a_checkpoint(workplace, tmp_path):
    run = tmp_path / "run"
    settings = arguments(
        workplace,
        tmp_path,
        "--run.max_skipped_steps",
        "2",
        "--deepspeed.config",
        "ds_configs/zero0.json",
    )
    # from step 3 on
    ended = held_ranks(
        tmp_path, 1, *settings, "--decay.method", "uniform", "--checkpoint.every", "0", nan=9
    )
    assert ended.code == 2 and "Traceback" not in ended.output, ended.output
    errors = [line for line in ended.output.splitlines() if line.startswith("error: ")]
    assert (
        len(errors) == 1
        and "2 steps in a row" in errors[0]
        and "run.max_skipped_steps" in errors[0]
    ), ended.output
    assert checkpoints(run) == [4] and state_of([str(run)]) == 1
    state = json.loads((run / "state.json").read_text())
    assert (state["state"], state["step"]) == ("failed", 4) and "not finite" in state["reason"]
    describe_failure = [
        (notice["step"], notice["in_a_row"], notice["skipped_steps"])
        for notice in metrics(run, "notice")
    ]
    assert describe_failure == [(3, 1, 1), (4, 2, 2)]

    healed = held_ranks(tmp_path, 1, *settings, "--decay.method", "uniform")
    assert healed.code == 0, healed.output
    losses = [record["loss"] for record in metrics(run, "train")]
    assert len(losses) == STEPS and losses[5] < losses[0] and len(metrics(run, "notice")) == 2
