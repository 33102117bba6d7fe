"""One start of the run by a launcher: how it is killed, asked to stop and waited for."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

import psutil

MARK = "WEEK_MARK"  # variable that every process of one start has
PATIENCE = 600.0  # seconds that one start may take


class Started(ABC):
    """One start and its log.

    Args:
        mark: the value of MARK in all its processes.

    Attributes:
        began_ns: when it was started, as files' times have it.
    """

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.began_ns = time.time_ns()

    @abstractmethod
    def said(self) -> str:
        """Return what it has printed."""

    @abstractmethod
    def ended(self) -> bool:
        """Return whether its launcher has ended, and will not start it again."""

    @abstractmethod
    def code(self) -> int:
        """Return the exit code of its launcher."""

    @abstractmethod
    def launchers(self) -> list[int]:
        """Return the processes that look after ranks."""

    @abstractmethod
    def ask(self) -> None:
        """Ask it to stop, as its user would."""

    def end(self) -> int:
        """Wait for its end and that of its processes; return the exit code."""
        deadline = time.monotonic() + PATIENCE
        while not self.ended() or self.processes():
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)
        return self.code()

    def kill(self, *pids: int) -> None:
        """Kill processes with signal 9."""
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def ranks(self) -> list[int]:
        """Return the processes of the ranks, by rank."""
        found: dict[int, int] = {}
        for pid in self.processes():  # what a rank forks is younger
            try:
                rank = psutil.Process(pid).environ().get("RANK")
            except psutil.Error:
                continue
            if rank is not None:
                found.setdefault(int(rank), pid)
        return [found[rank] for rank in sorted(found)]

    def processes(self) -> list[int]:
        """Return its living processes, oldest first."""
        found = []
        for process in psutil.process_iter():
            try:
                alive = process.status() != psutil.STATUS_ZOMBIE
                if alive and process.environ().get(MARK) == self.mark:
                    found.append((process.create_time(), process.pid))
            except psutil.Error:
                continue
        return [pid for _, pid in sorted(found)]


class TorchrunStarted(Started):
    """One torchrun on this machine.

    Args:
        command: its command line.
        folder: where it runs, and its log is.
        variables: its environment.
    """

    def __init__(
        self, command: list[str], folder: Path, variables: dict[str, str], mark: str
    ) -> None:
        super().__init__(mark)
        self._log = folder / f"{mark}.log"
        with self._log.open("w") as output:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=variables | {MARK: mark},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def said(self) -> str:
        """Return what it has printed."""
        return self._log.read_text(errors="replace")

    def ended(self) -> bool:
        """Return whether torchrun has ended."""
        return self._process.poll() is not None

    def code(self) -> int:
        """Return its exit code."""
        return self._process.wait(PATIENCE)

    def launchers(self) -> list[int]:
        """Return torchrun."""
        return [] if self.ended() else [self._process.pid]

    def ask(self) -> None:
        """Ask torchrun to stop; it passes that on."""
        if not self.ended():
            self._process.send_signal(signal.SIGTERM)


def count_lines(text: str, pattern: str) -> int:
    """Return how many lines have the pattern."""
    return sum(1 for line in text.splitlines() if re.search(pattern, line))


def tracebacks(text: str) -> list[str]:
    """Return the last line of every traceback of a rank, each once."""
    lines = re.findall(r"^(?:\[\w+\]: ?)?((?:\w+\.)*\w*(?:Error|Exception): .{0,160})", text, re.M)
    return sorted(set(lines))
