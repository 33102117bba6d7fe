"""Two machines for tests: network namespaces with names, addresses and sshds of their own, and the
project run in them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tests.conftest import ROOT
from tests.integration.program import Outcome, environment
from tests.waiting import until

SSH = Path(__file__).with_name("ssh.sh")
HOSTS = Path(__file__).with_name("hosts.sh")
GUARD = 600.0  # seconds: a hang is a failure, a slow machine is not


@dataclass
class Running:
    """A command on one of the machines."""

    process: subprocess.Popen[str]
    log: Path

    def end(self) -> Outcome:
        """Waits for it."""
        try:
            code = self.process.wait(GUARD)
        except subprocess.TimeoutExpired:
            pytest.fail(f"hangs:\n{self.log.read_text()}")
        return Outcome(code, self.log.read_text())


@dataclass
class Network:
    """n1 and n2, in a folder."""

    folder: Path
    started: list[Running] = field(default_factory=list)

    def start(self, host: str, *command: str | Path, **variables: str) -> Running:
        """Starts a command there. It is the process that gets the signals sent to `.process`."""
        log = self.folder / f"{len(self.started)}-{host}.log"
        line = [str(part) for part in (SSH, "run", self.folder, host, *command)]
        with log.open("w") as output:
            variables = {"PYTHON": sys.executable} | variables
            process = subprocess.Popen(
                line,
                cwd=ROOT,
                env=environment(**variables),
                text=True,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        self.started.append(Running(process, log))
        return self.started[-1]

    def run(self, host: str, *command: str | Path, **variables: str) -> Outcome:
        """Runs a command there to its end."""
        return self.start(host, *command, **variables).end()

    def cut(self, host: str) -> None:
        """Takes its network away."""
        subprocess.run([HOSTS, "cut", self.folder, host], check=True, timeout=120)

    def mend(self, host: str) -> None:
        """Gives it back."""
        subprocess.run([HOSTS, "mend", self.folder, host], check=True, timeout=120)

    def processes(self, host: str, text: str) -> list[psutil.Process]:
        """What lives there and has `text` in its command line."""
        sshd = int((self.folder / "run" / f"{host}.pid").read_text())
        space = os.readlink(f"/proc/{sshd}/ns/net")
        found = []
        for process in psutil.process_iter():
            try:
                if os.readlink(f"/proc/{process.pid}/ns/net") == space and any(
                    text in part for part in process.cmdline()
                ):
                    found.append(process)
            except (OSError, psutil.Error):
                continue
        return found

    def ranks(self, host: str) -> list[psutil.Process]:
        """The ranks there: what runs the program and is no launcher."""
        launchers = (
            "deepspeed.launcher",
            "torch.distributed.run",
            "pdsh",
            "mpirun",
            "ssh",
            "bash",
            "orted",
        )
        return [
            p
            for p in self.processes(host, "train/pretrain.py")
            if not any(name in part for part in p.cmdline()[:4] for name in launchers)
        ]

    def nobody_left(self) -> None:
        """Waits until nothing of the project's runs on either; what stays is an orphan."""
        left = comes_true(
            lambda: not [p for host in ("n1", "n2") for p in self.processes(host, "pretrain.py")],
            60.0,
        )
        assert left, [
            (host, p.cmdline())
            for host in ("n1", "n2")
            for p in self.processes(host, "pretrain.py")
        ]

    def down(self) -> None:
        """Ends everything."""
        subprocess.run([SSH, "down", self.folder], check=True, timeout=GUARD)


def alive(process: psutil.Process) -> bool:
    """Whether it still does something: one that ended is listed until its parent looks."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def comes_true(condition: Callable[[], object], limit: float = GUARD) -> bool:
    """Wait for a condition; return whether it came true in time."""
    try:
        until(condition, seconds=limit)
    except AssertionError:
        return False
    return True


def network(folder: Path) -> Network:
    """Two machines, or a skip where they cannot be made."""
    missing = [
        tool
        for tool in ("ip", "nsenter", "unshare", "pdsh", "mpirun", "sshd")
        if not shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin")
    ]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: tests/cluster/packages.txt")
    if os.geteuid() != 0:
        pytest.skip("needs root, for network namespaces")
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, timeout=120).returncode:
        pytest.skip("network namespaces are not allowed here")
    subprocess.run([SSH, "up", folder, "2"], check=True, timeout=GUARD)
    return Network(folder)
