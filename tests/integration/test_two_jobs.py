"""Two jobs with one output_dir: one trains, the other is refused or takes over a dead one."""

from __future__ import annotations

import json
import signal

import psutil
import pytest

from tests.forked import wait_for_ranks
from tests.integration.program import figures, fork_ranks, metrics
from tests.integration.stopping import HELD, checkpoints, held_ranks
from tests.waiting import PATIENCE, until
from train.loop.run_status import read_state


def arguments(workplace, run, *more):
    settings = ("--decay.method", "uniform", "--checkpoint.every", "1")
    return ("--config", str(workplace.recipe), "--output_dir", str(run), *settings, *more)


def ask_to_stop(ranks):
    """They are held until they are asked; they go on to the end of their step."""
    for rank in ranks:
        psutil.Process(rank.pid).send_signal(signal.SIGUSR1)


@pytest.fixture
def held_job(workplace, tmp_path):
    """A job of two ranks that is held in the forward pass of step 3; and how to let it go on."""
    run = tmp_path / "run"
    notes = tmp_path / "first"
    notes.mkdir()
    log = tmp_path / "first.log"
    log.touch()
    start = arguments(workplace, run)
    more = {"HELD_IN": str(notes), "HELD_AT": "step:5", "SLURM_JOB_ID": "17"}
    ranks = fork_ranks(2, tmp_path, log, HELD, *start, **more)
    until((notes / "reached").exists, log.read_text)
    yield run, ranks, log
    wait_for_ranks(ranks, 1.0) if all(rank.exitcode is not None for rank in ranks) else None
    for rank in ranks:
        rank.kill()


def test_the_second_is_refused_in_a_sentence_and_touches_nothing(workplace, tmp_path, held_job):
    run, ranks, log = held_job
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    second = held_ranks(tmp_path, 1, *arguments(workplace, run))
    assert second.code == 2 and "Traceback" not in second.output, second.output
    [error] = [line for line in second.output.splitlines() if line.startswith("error: ")]
    host = psutil.os.uname().nodename
    assert (
        f"output_dir: {run} is held by job 17, process {ranks[0].pid} on {host}; give this run an "
        "--output_dir of its own" in error
    )
    after = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed <= {".lease-00000001"} and read_state(run)["state"] == "running"
    ask_to_stop(ranks)  # it was not disturbed
    assert wait_for_ranks(ranks, PATIENCE) == 75, log.read_text()
    assert (read_state(run)["reason"], read_state(run)["step"]) == ("SIGUSR1", 3)


def test_a_job_that_was_taken_over_stops_and_commits_nothing(workplace, tmp_path, held_job):
    run, ranks, log = held_job
    saved = checkpoints(run, killed=True)  # another may be on its way
    state = (run / "state.json").read_text()
    facts = json.loads((run / ".lease-00000001").read_text()) | {"host": "n2", "nonce": "other"}
    (run / ".lease-00000001").unlink()
    (run / ".lease-00000002").write_text(json.dumps(facts))
    ask_to_stop(ranks)
    assert wait_for_ranks(ranks, PATIENCE) == 2, log.read_text()
    errors = [line for line in log.read_text().splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "was taken over" in errors[0] and "on n2" in errors[0]
    assert checkpoints(run, killed=True) == saved and (run / "state.json").read_text() == state


def test_a_killed_job_is_taken_over_at_once_and_ends_as_if_undisturbed(
    workplace, tmp_path, held_job
):
    run, ranks, _ = held_job
    for rank in ranks:
        rank.kill()
        rank.join()
    again = held_ranks(tmp_path, 2, *arguments(workplace, run))
    assert again.code == 0 and "waiting for up to" not in again.output, again.output
    whole = held_ranks(tmp_path, 2, *arguments(workplace, tmp_path / "whole"))
    assert whole.code == 0
    assert figures(run) == figures(tmp_path / "whole")
    manifest = json.loads((run / "checkpoints/step-00000006/manifest.json").read_text())
    assert manifest["nonce"] and metrics(run, "train")
