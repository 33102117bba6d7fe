"""What asks a run to stop; handlers are tried in processes of their own."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.conftest import ROOT
from train.loop.stopping.signals import (
    LAUNCHER,
    OWN_STOP_FILE,
    REASONS,
    TAKEN_OVER,
    StopRequests,
    _program,
    agreed,
    exit_code,
    own_stop_files,
)


def run(body, *, ignore=(), timeout=60):
    """A Python process with `requests` installed; its exit code and what it printed."""
    head = (
        "import os, signal, sys, time\nfrom train.loop.stopping.signals import *\n"
        "from train.errors import Stopped\n"
    )
    # the tests themselves may run under nohup
    early = "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"
    early += "".join(f"signal.signal(signal.{name}, signal.SIG_IGN)\n" for name in ignore)
    code = head + early + "requests = StopRequests()\nrequests.install()\n" + textwrap.dedent(body)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=timeout
    )
    return done.returncode, done.stdout.strip(), done.stderr


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT", "SIGHUP"])
def test_a_signal_is_noted_and_nothing_else(name):
    code, out, _ = run(
        "print(agreed(requests.flags()))\nos.kill(os.getpid(), "
        f"signal.{name})\nprint(agreed(requests.flags()))"
    )
    assert (code, out) == (0, name)


def test_the_second_interrupt_ends_at_once():
    body = """
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
    print("on", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    print("never")
    """
    code, out, err = run(body)
    assert (code, out) == (130, "on") and "without a checkpoint" in err


def test_nohup_is_respected():
    code, out, _ = run(
        "os.kill(os.getpid(), signal.SIGHUP)\nprint(sum(requests.flags()))", ignore=["SIGHUP"]
    )
    assert (code, out) == (0, "0.0")


def test_where_there_is_nothing_to_save_a_signal_interrupts():
    body = """
    for early in (True, False):
        try:
            if early:
                os.kill(os.getpid(), signal.SIGUSR1)
            with requests.interrupting():
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(100)
        except Stopped as reason:
            print(reason)
            requests._received.clear()
    os.kill(os.getpid(), signal.SIGTERM)
    print(agreed(requests.flags()))
    """
    assert run(body)[:2] == (0, "SIGUSR1\nSIGTERM\nSIGTERM")


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ("requests.files[1].touch()", "stop file"),
        ("requests.until = time.time() - 1", "run.max_hours"),
    ],
)
@pytest.mark.parametrize("early", [True, False])
def test_where_there_is_nothing_to_save_a_file_and_the_clock_interrupt(
    tmp_path, asked, reason, early
):
    """One that was there before interrupts at once, a later one within seconds."""
    body = f"""
    from pathlib import Path
    requests.files = tuple(Path({str(tmp_path)!r}) / name for name in ("stop", "own"))
    try:
        if {early}:
            {asked}
        with requests.interrupting():
            print("preparing")
            if not {early}:
                {asked}
            time.sleep(100)
    except Stopped as stopped:
        print(stopped)
    """
    expected = reason if early else f"preparing\n{reason}"
    assert run(body)[:2] == (0, expected)


def test_a_child_dies_of_the_signal():
    body = """
    pid = os.fork()
    if not pid:
        time.sleep(100)
        os._exit(0)
    os.kill(pid, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), sum(requests.flags()))
    """
    assert run(body)[:2] == (0, "-15 0.0")


CHILD = """
import os, sys, time
from train.errors import Stopped
from train.loop.stopping.signals import StopRequests, agreed
requests = StopRequests()
requests.install()
before = agreed(requests.flags())
interrupted = ""
try:
    with requests.interrupting():
        print("ready", flush=True)
        time.sleep(100)
except Stopped as reason:
    interrupted = str(reason)
print(repr(before), interrupted, agreed(requests.flags()), sep="|", flush=True)
"""


def test_the_death_of_the_launcher_is_a_request(tmp_path):
    """deepspeed starts a launcher that starts the ranks; the first of the two is killed."""
    (tmp_path / "rank.py").write_text(CHILD)
    (tmp_path / "middle.py").write_text(
        "import subprocess, sys\nsubprocess.run([sys.executable, sys.argv[1]])\n"
    )
    (tmp_path / "deepspeed").write_text(
        "import subprocess, sys\nsubprocess.run([sys.executable, *sys.argv[1:]])\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    chain = [
        sys.executable,
        *(str(tmp_path / name) for name in ("deepspeed", "middle.py", "rank.py")),
    ]
    with subprocess.Popen(chain, stdout=subprocess.PIPE, text=True, env=environment) as runner:
        assert runner.stdout.readline() == "ready\n"
        runner.send_signal(signal.SIGKILL)
        assert runner.stdout.read() == f"''|{LAUNCHER}|{LAUNCHER}\n"


@pytest.mark.parametrize(
    ("line", "program"),
    [
        ("/usr/bin/python3 /venv/bin/deepspeed --num_gpus 2 train/pretrain.py", "deepspeed"),
        (
            "/venv/bin/python -u -m deepspeed.launcher.launch --world_info=e30= x.py",
            "deepspeed.launcher.launch",
        ),
        ("/usr/bin/python3.11 /venv/bin/torchrun --standalone x.py", "torchrun"),
        ("python -m torch.distributed.run x.py", "torch.distributed.run"),
        ("/venv/bin/torchrun x.py", "torchrun"),
        ("bash -c deepspeed x.py", "bash"),
        ("timeout 60 deepspeed x.py", "timeout"),
        ("python -m", ""),
        ("", ""),
    ],
)
def test_which_program_a_command_line_runs(line, program):
    assert _program(line.split()) == program


def test_the_stop_file(tmp_path):
    requests = StopRequests(tmp_path / "stop")
    assert agreed(requests.flags()) == ""
    (tmp_path / "stop").touch()
    assert agreed(requests.flags()) == "stop file"
    requests.honoured()
    requests.honoured()
    assert agreed(requests.flags()) == "" and not list(Path(tmp_path).iterdir())


def test_who_starts_a_run_may_name_a_stop_file_of_its_own(tmp_path, monkeypatch):
    assert own_stop_files() == ()
    monkeypatch.setenv(OWN_STOP_FILE, str(tmp_path / "own"))
    requests = StopRequests(tmp_path / "stop", *own_stop_files())
    (tmp_path / "own").touch()
    assert agreed(requests.flags()) == "stop file"
    requests.honoured()
    assert agreed(requests.flags()) == "" and not list(tmp_path.iterdir())


def test_one_rank_is_enough_and_the_first_reason_counts():
    mine = StopRequests().flags(out_of_time=True)
    other = [0.0] * len(REASONS)
    other[REASONS.index(LAUNCHER)] = 1.0
    assert agreed(mine) == "run.max_hours"
    assert agreed(StopRequests().flags(out_of_time=True, taken_over=True)) == TAKEN_OVER
    assert agreed([a + b for a, b in zip(mine, other, strict=True)]) == LAUNCHER


def test_the_exit_code(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert exit_code() == 75
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    assert exit_code() == 0


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EACCES])
def test_a_stop_file_that_cannot_be_looked_for_ends_nothing(tmp_path, monkeypatch, number):
    requests = StopRequests(tmp_path / "stop")
    (tmp_path / "stop").touch()

    def failing(self, *_, **more):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", failing)
        patched.setattr(Path, "exists", failing)
        patched.setattr(Path, "unlink", failing)
        assert agreed(requests.flags()) == ""
        requests.honoured()
    assert agreed(requests.flags()) == "stop file"
    requests.honoured()
    assert agreed(requests.flags()) == ""
