"""Runs on this machine: what is started, what is left, and what a signal does; with a stand-in for
the program.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.leases import held_by_another
from tests.unit.train.experiments.sweeps.sweeping import (
    behave,
    planned,
    stand_in,
    starts,
)
from tests.waiting import PATIENCE, until
from train.errors import UserError
from train.experiments.grids.resolved_run import Planned
from train.experiments.sweeps import local
from train.experiments.sweeps.local import LocalSweep, command_line
from train.experiments.sweeps.sweep_status import LEASE, RunStatus, write_job
from train.loop.run_status import read_state, write_state
from train.system.lease_files import is_held

__all__ = ["stand_in"]
pytestmark = pytest.mark.usefixtures("stand_in")


def sweep(
    runs: list[Planned], jobs: int = 1, ranks: int = 1, retry: bool = False
) -> tuple[int, list[str], LocalSweep]:
    """Exit code, what it said, and the sweep."""
    said: list[str] = []
    one = LocalSweep(runs, ranks, jobs, retry, lambda: {"7_1"}, said.append)
    return one.run(), said, one


def states(runs: list[Planned]) -> list[str]:
    return [str(read_state(run.run.folder).get("state")) for run in runs]


def test_what_is_missing_runs_and_what_is_finished_does_not_run_again(tmp_path: Path) -> None:
    runs = planned(tmp_path)
    code, said, _ = sweep(runs[:1])
    assert code == 0 and len(said) == 2
    assert said[0].startswith("three-7m-uniform seed 1: started; output in ") and re.search(
        r"seed 1: finished, perplexity 12\.5, \d+\.\d minutes", said[1]
    )
    code, said, one = sweep(runs)
    assert (
        code == 0
        and len(said) == 6
        and {outcome.state for outcome in one.outcomes.values()} == {"finished"}
    )
    assert [len(starts(run)) for run in runs] == [1, 1, 1, 1]
    log = (runs[0].run.folder / "sweep.log").read_text()
    assert (
        log.startswith("=== ") and "--run.seed 1 --output_dir" in log and log.endswith("so far\n")
    )


def test_one_that_fails_does_not_stop_the_others_and_is_left_until_asked_for(
    tmp_path: Path,
) -> None:
    runs = planned(tmp_path)
    for run, how in zip(runs, ("refused", "fails", "", "dies"), strict=True):
        behave(run, how)
    code, said, _ = sweep(runs)
    text = "\n".join(said)
    assert code == 1 and states(runs) == ["failed", "failed", "finished", "running"]
    for reason in (
        "uniform seed 1: failed after MINUTES minutes: error: data.files: nothing.txt is not there",
        "alphadecay seed 1: failed after MINUTES minutes: the disk is full",
    ):
        pattern = re.escape(f"three-7m-{reason}; see ").replace("MINUTES", r"\d+\.\d")
        assert re.search(pattern, text), text
    assert "three-7m-alphadecay seed 2: stopped at step 3 (killed)" in text

    for run in runs:
        behave(run, "")
    code, said, _ = sweep(runs)
    text = "\n".join(said)
    assert code == 1 and [len(starts(run)) for run in runs] == [1, 1, 1, 2]
    assert (
        "uniform seed 1: failed in an earlier sweep (error: data.files: nothing.txt is not there); "
        "--retry-failed" in text
    )
    assert "alphadecay seed 2: started again at step 3 (killed)" in text

    code, said, _ = sweep(runs, retry=True)
    assert (
        code == 0
        and [len(starts(run)) for run in runs] == [2, 2, 1, 2]
        and states(runs) == ["finished"] * 4
    )
    assert "started again after: error: data.files: nothing.txt is not there" in said[0]


def test_one_whose_folder_cannot_be_written_does_not_stop_the_others(tmp_path: Path) -> None:
    runs = planned(tmp_path)
    runs[0].run.folder.parent.mkdir(parents=True)
    runs[0].run.folder.touch()
    code, said, _ = sweep(runs)
    assert (
        code == 1
        and said[0].startswith("three-7m-uniform seed 1: cannot start: cannot write to ")
        and "--root" in said[0]
    )
    assert [len(starts(run)) for run in runs[1:]] == [1, 1, 1]


@pytest.mark.parametrize(
    ("number", "ranks"), [(signal.SIGTERM, 1), (signal.SIGINT, 1), (signal.SIGTERM, 2)]
)
def test_a_signal_goes_on_to_the_runs_and_starts_no_more(
    tmp_path: Path, number: signal.Signals, ranks: int
) -> None:
    runs = planned(tmp_path)
    for run in runs:
        behave(run, "waits")

    def ask() -> None:
        until(lambda: all(read_state(run.run.folder) for run in runs[:2]))
        os.kill(os.getpid(), number)

    before = signal.default_int_handler
    asking = threading.Thread(target=ask)
    # a shell starts what goes to the background with SIGINT ignored
    given = signal.signal(number, before)
    asking.start()
    try:
        code, said, one = sweep(runs, jobs=2, ranks=ranks)
        asking.join(PATIENCE)
        after = signal.getsignal(number)
    finally:
        signal.signal(number, given)
    assert (
        code == 75
        and states(runs) == ["stopped", "stopped", "None", "None"]
        and len(one.outcomes) == 2
    )
    assert any("asked to stop: waiting for 2" in line for line in said) and after is before
    # Torchrun would kill ranks that take their time; and a second job may look for the folder's
    # own stop file.
    how = "stop file" if ranks == 2 else "SIGTERM"
    assert [read_state(run.run.folder)["reason"] for run in runs[:2]] == [how, how]
    assert not list(tmp_path.rglob("stop*"))

    for run in runs:
        behave(run, "")
    code, said, _ = sweep(runs)
    assert (
        code == 0
        and f"started again at step 5 ({how})" in said[0]
        and states(runs) == ["finished"] * 4
    )


def test_asked_twice_it_ends_at_once(tmp_path: Path) -> None:
    [run] = planned(tmp_path)[:1]
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('deaf', flush=True); time.sleep(60)"
    )
    program = tmp_path / "program.py"
    program.write_text(deaf)

    log = run.run.folder / "sweep.log"
    said: list[str] = []

    def ask() -> None:
        until(lambda: log.exists() and "deaf" in log.read_text())
        os.kill(os.getpid(), signal.SIGTERM)
        until(lambda: any("asked to stop" in line for line in said))
        os.kill(os.getpid(), signal.SIGTERM)

    asking = threading.Thread(target=ask)
    asking.start()
    code = LocalSweep([run], 1, 1, False, lambda: {"7_1"}, said.append).run()
    asking.join(PATIENCE)
    assert (
        code == 75
        and "stopped at step 0 (before it began)" in said[-1]
        and states([run]) == ["None"]
    )


def test_runs_that_another_has_are_left_to_it(tmp_path: Path) -> None:
    runs = planned(tmp_path)
    write_job(runs[1].run.folder, "7_1", 0)
    with held_by_another(runs[0].run.folder, LEASE), held_by_another(runs[2].run.folder):
        code, said, _ = sweep(runs)
    assert code == 75 and [len(starts(run)) for run in runs] == [0, 0, 0, 1]
    assert said[0] == "three-7m-uniform seed 1: left to another, who has it: running"
    assert said[1] == "three-7m-alphadecay seed 1: left to another, who has it: queued job 7_1"
    assert said[2] == "three-7m-uniform seed 2: left to another, who has it: running"
    assert sweep([runs[0], runs[2]])[0] == 0


def test_a_start_that_another_program_was_quicker_than_leaves_its_state_alone(
    tmp_path: Path,
) -> None:
    [run] = planned(tmp_path)[:1]
    behave(run, "refused")
    write_state(run.run.folder, "running", step=4)
    before = (run.run.folder / "state.json").read_text()
    one = LocalSweep([run], 1, 1, False, set, lambda text: None)
    one._start(one._waiting.popleft())
    with held_by_another(run.run.folder):
        assert one.run() == 75
    assert (run.run.folder / "state.json").read_text() == before
    reason = "error: data.files: nothing.txt is not there"
    assert list(one.outcomes.values()) == [RunStatus("running", 4, reason)]


def test_one_that_does_not_start_is_given_back(tmp_path: Path, monkeypatch: Any) -> None:
    [run] = planned(tmp_path)[:1]
    monkeypatch.setattr(local, "command_line", lambda run, ranks: [str(tmp_path / "nowhere")])
    assert sweep([run])[0] == 1
    assert not is_held(run.run.folder, LEASE)


def test_each_of_several_at_a_time_has_gpus_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = planned(tmp_path)
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 3,5,7,8")
    for run in runs[:2]:
        behave(run, "waits")
    one = LocalSweep(runs[:2], 2, 2, False, set, lambda text: None)
    one._start(one._waiting.popleft())
    one._start(one._waiting.popleft())
    for run in runs[:2]:
        (run.run.folder / "go").touch()
    assert one.run() == 0 and [starts(run) for run in runs[:2]] == [["2,3"], ["5,7"]]
    with pytest.raises(
        UserError, match=r"--jobs 3 runs of 2 ranks need 6 GPUs, and there are 5; --jobs 2 fits"
    ):
        LocalSweep(runs, 2, 3, False, set, print)
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    assert LocalSweep(runs, 2, 3, False, set, print)._places[2]["OMP_NUM_THREADS"]


def test_command_lines(tmp_path: Path) -> None:
    [run] = planned(tmp_path, **{"data.tokenizer": ""})[:1]
    one = command_line(run, 1)
    two = command_line(run, 2)
    assert one[1:3] == [str(ROOT / "train" / "pretrain.py"), "--config"] and one[3].endswith(
        "train/recipes/quickstart.yaml"
    )
    assert two[:3] == [str(ROOT / "launch" / "torchrun.sh"), "--ranks", "2"] and two[3:] == one[2:]
    shown = subprocess.run(
        [one[0], "-m", "train", "where", *one[2:]],
        text=True,
        capture_output=True,
        cwd=ROOT,
        timeout=120,
    )
    assert shown.stdout.strip() == str(run.run.folder) and run.config.data.tokenizer == "", (
        shown.stderr
    )
