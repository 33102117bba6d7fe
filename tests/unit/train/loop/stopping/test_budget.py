"""A run ends early enough for its checkpoint; time here is a number."""

import os
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT
from train.loop.stopping.budget import SAFETY, STARTED, Budget, job_start


class Clock:
    def __init__(self):
        self.time = 1000.0

    def __call__(self):
        return self.time


def run(budget, clock, step, save=0.0, evaluation=0.0, every=10**9):
    """Steps until told to stop, asking where the loop asks; then the save.

    The time at which it is written.
    """
    for number in range(1, 10**6):
        with budget.timed("step"):
            clock.time += step
        if budget.spent():
            break
        if number % every == 0:
            with budget.timed("evaluation"):
                clock.time += evaluation
            if budget.spent():
                break
    with budget.timed("save"):
        clock.time += save
    return clock.time - 1000.0


@pytest.mark.parametrize(
    ("step", "save", "evaluation", "every"),
    [(1, 60, 0, 10**9), (1, 5, 100, 7), (30, 300, 40, 3), (0.1, 0, 0, 5)],
)
def test_the_checkpoint_is_written_in_time_and_not_much_too_early(step, save, evaluation, every):
    clock = Clock()
    budget = Budget(1.0, 1000.0, clock, {"save": save})
    budget.load_state_dict({"evaluation": evaluation})  # from an earlier start
    ended = run(budget, clock, step, save, evaluation, every)
    longest = max(step, save, evaluation)
    assert 3600 - SAFETY * (longest + save) - longest - save <= ended <= 3600


def test_a_first_checkpoint_gets_a_share_of_the_budget():
    clock = Clock()
    assert run(Budget(1.0, 1000.0, clock), clock, step=1.0, save=170.0) <= 3600


def test_no_budget_never_ends():
    assert not Budget(0.0, start=0.0).spent()


def test_time_counts_from_the_start_of_the_process(monkeypatch):
    monkeypatch.delenv(STARTED, raising=False)
    assert 0 < time.time() - job_start() < 24 * 3600
    assert Budget(1e-9).spent() and Budget(0.0).ends() is None
    assert Budget(2.0, start=100.0).ends() == 7300.0


@pytest.mark.parametrize(("set_to", "counts"), [("1000.5", True), ("", False), ("soon", False)])
def test_time_counts_from_the_start_of_a_schedulers_job(monkeypatch, set_to, counts):
    monkeypatch.setenv(STARTED, set_to)
    assert (job_start() == 1000.5) == counts


def test_time_counts_on_after_torchrun_has_started_the_ranks_again(tmp_path):
    """The worker notes when its job began and dies once; torchrun is older than both."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import os, sys\n"
        "from train.loop.stopping.budget import job_start\n"
        "from train.system.processes import process_start\n"
        "with open(sys.argv[1], 'a') as file:\n"
        "    print(job_start(), process_start(), file=file)\n"
        "os._exit(1 - int(os.environ['TORCHELASTIC_RESTART_COUNT']))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run(
        [*command, str(worker), str(tmp_path / "starts")],
        env=environment,
        capture_output=True,
        timeout=300,
        check=True,
    )
    (job, first), (again, second) = (
        map(float, line.split()) for line in (tmp_path / "starts").read_text().splitlines()
    )
    assert job == again < first < second


def test_a_save_that_was_slow_once_leaves_half_of_the_budget_and_is_forgotten():
    clock = Clock()
    budget = Budget(1.0, 1000.0, clock)
    budget.load_state_dict({"save": 3000.0, "step": 1.0})
    assert not budget.spent()
    assert run(budget, clock, step=1.0, save=60.0) == pytest.approx(1800 + 60, abs=2)
    for _ in range(6):
        budget.note("save", 60.0)
    assert budget.longest["save"] < 90


def test_what_takes_longer_counts_at_once():
    budget = Budget(1.0, 0.0, Clock(), {"save": 60.0})
    budget.note("save", 300.0)
    assert budget.longest == {"save": 300.0}


def test_the_longest_is_kept():
    budget = Budget(1.0, 0.0, Clock(), {"save": 3.0})
    budget.load_state_dict({"save": 2.0, "step": 1.0})
    assert budget.longest == {"save": 3.0, "step": 1.0}
