"""One job holds a folder; a dead one is taken over, a living one is refused or waited for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT
from tests.waiting import until
from train.system.lease import Lease, LeaseLost, LeaseTaken
from train.system.lease_files import PATIENCE as LONG
from train.system.lease_files import is_held
from train.system.processes import started, this_process

BEAT = 0.02
PATIENCE = 0.4


class Said(list[str]):
    """The lines that a job shows to people."""


def lease(folder: Path, host: str = "here", job: str = "", **options: object) -> Lease:
    """A job's lease; on another host nobody can look for its process."""
    made = Lease(folder, f"output_dir: {folder}", "stop it first", **options, beat=BEAT)  # type: ignore[arg-type]
    machine = this_process().machine if host == "here" else host
    made.holder = replace(made.holder, host=host, machine=machine, job=job)
    return made


def other(folder: Path, said: list[str], **options: object) -> Lease:
    """A lease of another host's job."""
    return lease(folder, "there", say=said.append, patience=PATIENCE, **options)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob(".lease-*"))


def stop_beating(held: Lease) -> None:
    """As a kill -9 of its machine does."""
    held._over.set()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that holds the folder."""
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom train.system.lease import Lease\n"
        "Lease(Path(sys.argv[1]), 'it').take()\nprint('taken', flush=True)\ntime.sleep(600)\n"
    )
    environment = os.environ | {"SLURM_JOB_ID": "17", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None and process.stdout.readline() == "taken\n"
        yield process
        process.kill()


def test_a_folder_is_taken_given_back_and_taken_again_at_once(tmp_path: Path) -> None:
    said = Said()
    first = lease(tmp_path)
    first.take()
    first.check()
    facts = json.loads((tmp_path / ".lease-00000001").read_text())
    assert (facts["pid"], facts["nonce"], facts["host"]) == (os.getpid(), first.nonce, "here")
    first.release()
    first.release()
    second = other(tmp_path, said)
    second.take()
    second.check()
    assert files(tmp_path) == [".lease-00000002"] and said == []
    second.release()


def test_a_living_process_here_is_refused_by_its_host_job_and_number(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    held_by = f"is held by job 17, process {holder.pid} on {this_process().host}; stop it first"
    with pytest.raises(LeaseTaken, match=held_by):
        lease(tmp_path).take()
    assert files(tmp_path) == [".lease-00000001"]


def test_a_killed_process_here_is_taken_over_at_once(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    os.kill(holder.pid, signal.SIGKILL)  # not yet waited for: a zombie
    until(lambda: this_process_sees_dead(tmp_path))
    said = Said()
    taken = lease(tmp_path, say=said.append, patience=600.0)
    taken.take()
    taken.check()
    assert said == [] and files(tmp_path) == [".lease-00000002"]
    taken.release()


def this_process_sees_dead(folder: Path) -> bool:
    from train.system.processes import Holder

    facts = json.loads((folder / ".lease-00000001").read_text())
    return Holder.from_facts(facts).alive_here() is False


def test_a_clock_that_is_set_makes_nobody_another_process(
    tmp_path: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: real(process) + 3600.0)
    assert started(holder.pid) >= started(os.getpid()) >= 0.0
    with pytest.raises(LeaseTaken, match=f"process {holder.pid} on"):
        lease(tmp_path, patience=600.0).take()


def test_a_number_used_again_is_another_process(tmp_path: Path) -> None:
    held = lease(tmp_path)
    held.holder = replace(held.holder, pid=os.getppid(), started=held.holder.started - 1e6)
    held.take()
    stop_beating(held)
    taken = lease(tmp_path, patience=600.0)
    taken.take()
    taken.release()


def test_a_living_job_of_another_host_is_refused_once_its_count_has_moved(tmp_path: Path) -> None:
    said = Said()
    held = other(tmp_path, [])
    held.take()
    with pytest.raises(LeaseTaken, match=r"process .* on there"):
        lease(tmp_path, say=said.append, patience=600.0).take()
    assert len(said) == 1 and "waiting for up to 600 s to see whether it still lives" in said[0]
    held.check()
    held.release()


@pytest.mark.parametrize("skew", [-86400.0, 86400.0])
def test_a_dead_job_of_another_host_is_taken_over_whatever_its_clock(
    tmp_path: Path, skew: float
) -> None:
    held = other(tmp_path, [])
    held.take()
    stop_beating(held)
    path = tmp_path / ".lease-00000001"
    os.utime(path, (path.stat().st_mtime + skew,) * 2)
    said = Said()
    taken = lease(tmp_path, say=said.append, patience=PATIENCE)
    taken.take()
    assert len(said) == 2 and "no sign of process" in said[1] and "taking over" in said[1]
    taken.check()
    taken.release()


def test_who_was_taken_over_commits_nothing_and_leaves_the_others_file(tmp_path: Path) -> None:
    held = other(tmp_path, [])
    held.take()
    stop_beating(held)
    taken = lease(tmp_path, patience=PATIENCE)
    taken.take()
    assert not held.lost
    with pytest.raises(LeaseLost, match=f"held by process {os.getpid()} on here"):
        held.check()
    held.release()  # writes nothing
    taken.check()
    taken.release()


def test_a_beat_notices_that_the_folder_was_taken_over(tmp_path: Path) -> None:
    held = other(tmp_path, [])
    held.take()
    (tmp_path / ".lease-00000001").rename(tmp_path / ".lease-00000002")
    until(lambda: held.lost)  # for good
    with pytest.raises(LeaseLost):
        held.check()


def test_a_file_that_was_removed_by_hand_is_a_lease_lost(tmp_path: Path) -> None:
    held = lease(tmp_path)
    held.take()
    (tmp_path / ".lease-00000001").unlink()
    with pytest.raises(LeaseLost, match="its file is gone"):
        held.check()


@pytest.mark.parametrize("content", [b"", b'{"host": "n1"', b"[]"])
def test_a_file_that_says_nothing_is_watched_and_taken_over(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".lease-00000007").write_bytes(content)
    taken = lease(tmp_path, say=Said().append, patience=PATIENCE)
    taken.take()
    assert files(tmp_path) == [".lease-00000008"]
    taken.release()


def test_of_many_that_find_it_dead_one_gets_it(tmp_path: Path) -> None:
    held = other(tmp_path, [])
    held.take()
    stop_beating(held)
    outcomes: list[str] = []

    def compete(number: int) -> None:
        mine = lease(tmp_path, f"host-{number}", say=Said().append, patience=PATIENCE)
        try:
            mine.take()
            outcomes.append("taken")
        except LeaseTaken:
            outcomes.append("refused")

    threads = [threading.Thread(target=compete, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["refused"] * 7 + ["taken"]


def test_one_look_tells_whether_a_folder_is_held(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    assert is_held(tmp_path) and not is_held(tmp_path, "other")
    assert not is_held(tmp_path / "nowhere")
    os.kill(holder.pid, signal.SIGKILL)
    until(lambda: this_process_sees_dead(tmp_path))
    assert not is_held(tmp_path)


def test_a_look_at_another_hosts_lease_goes_by_its_last_beat(tmp_path: Path) -> None:
    held = other(tmp_path, [], name="sweep")
    held.take()
    stop_beating(held)
    path = tmp_path / ".sweep-00000001"
    assert is_held(tmp_path, "sweep")
    os.utime(path, (time.time() - 2 * LONG,) * 2)
    assert not is_held(tmp_path, "sweep")
    os.utime(path)
    held.release()
    assert not is_held(tmp_path, "sweep")


def test_leases_of_two_names_know_nothing_of_each_other(tmp_path: Path) -> None:
    first, second = lease(tmp_path), other(tmp_path, [], name="sweep")
    first.take()
    second.take()
    first.check()
    second.check()
    first.release()
    second.check()
    second.release()


def test_an_earlier_start_of_the_same_job_is_waited_for(tmp_path: Path) -> None:
    """It was requeued to other nodes while the old ones still write."""
    held = lease(tmp_path, "old-node", job="17", patience=PATIENCE)
    held.take()
    said = Said()
    requeued = lease(tmp_path, "new-node", job="17", say=said.append, patience=PATIENCE)
    thread = threading.Thread(target=requeued.take)
    thread.start()
    until(lambda: said)
    stop_beating(held)
    thread.join()
    assert requeued.taken
    with pytest.raises(LeaseLost):
        held.check()
    requeued.release()


def test_who_waits_gets_it_when_the_holder_ends(tmp_path: Path) -> None:
    held = other(tmp_path, [])
    held.take()
    said = Said()
    waiting = lease(tmp_path, wait=True, say=said.append, patience=600.0)
    thread = threading.Thread(target=waiting.take)
    thread.start()
    until(lambda: said)
    held.release()
    thread.join()
    assert waiting.taken
    waiting.release()


def test_an_error_of_the_file_system_is_one_count_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = lease(tmp_path)
    held.take()

    def stale(*_: object) -> None:
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", stale)
        held._write(released=False)
    assert held.taken
    held.check()
    held.release()
