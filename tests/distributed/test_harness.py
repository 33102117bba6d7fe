"""Ranks of the tests: what goes wrong on one is told, and no job leaves anything to the next."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from tests.distributed.harness import run_ranks
from tests.forked import fork_program, wait_for_ranks
from tests.waiting import until


def summed(rank: int) -> tuple[float, bool]:
    """The sum of every rank's number, and whether the server had imported DeepSpeed."""
    ready = "deepspeed" in sys.modules
    number = torch.tensor(float(rank + 1))
    dist.all_reduce(number)
    return number.item(), ready


def poisoning(rank: int) -> None:
    """Leave behind what a job can."""
    os.environ["LEFT"] = "behind"
    os.chdir("/")
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(rank)
    torch.left_behind = True  # type: ignore[attr-defined]


def looking(rank: int) -> tuple[str | None, torch.dtype, bool, str]:
    """What the job before may have left."""
    left = hasattr(torch, "left_behind")
    return os.environ.get("LEFT"), torch.get_default_dtype(), left, os.getcwd()


def failing(rank: int, how: str) -> None:
    """Rank 1 raises, dies or hangs; the other waits for it."""
    if rank == 1:
        if how == "raises":
            raise ZeroDivisionError("on rank 1 alone")
        if how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(1000)
    dist.barrier()


def test_results_come_in_rank_order_from_ranks_with_imports_done() -> None:
    assert run_ranks(3, summed) == [(6.0, True)] * 3


def test_a_job_leaves_nothing_to_the_next() -> None:
    before = run_ranks(2, looking)
    run_ranks(2, poisoning)
    assert run_ranks(2, looking) == before
    assert before[0][:3] == (None, torch.float32, False)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raises", "rank 1:\n(.|\n)*ZeroDivisionError: on rank 1 alone"),
        ("dies", "rank 1 ended with code -9"),
        ("hangs", r"Timeout(.|\n)*in failing"),
    ],
)
def test_what_goes_wrong_is_told_and_the_next_job_runs(how: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        run_ranks(2, failing, how, deadline=3.0 if how == "hangs" else 60.0)
    assert run_ranks(2, summed) == [(3.0, True)] * 2


def test_a_program_gets_its_arguments_signals_and_streams(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import os, signal, sys\n"
        "signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))\n"
        "print(sys.argv[1:], os.environ['WORD'], os.getcwd(), flush=True)\n"
        "print(__name__, file=sys.stderr)\n"
        "signal.pause() if sys.argv[1] == 'wait' else sys.exit('no')\n"
    )
    log = tmp_path / "log"
    for word, code in (("wait", 75), ("leave", 1)):
        log.write_text("")
        command = (str(tmp_path / "program.py"), word)
        process = fork_program(command, tmp_path, {"WORD": "given"}, log)
        until(lambda: "__main__" in log.read_text(), log.read_text, 60)
        if word == "wait":
            os.kill(process.pid or 0, signal.SIGUSR1)
        assert wait_for_ranks([process], 60) == code
        assert f"['{word}'] given {tmp_path}" in log.read_text()
    assert log.read_text().endswith("no\n")


def test_a_condition_that_does_not_come_true_is_named() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.05 s: the moon"):
        until(lambda: False, "the moon", 0.05)
