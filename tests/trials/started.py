"""One start of a launcher with its log: how it is killed, asked to stop and waited for."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

PATIENCE = 600.0  # seconds that one start may take


@dataclass
class Started:
    """One torchrun and its log."""

    process: subprocess.Popen[bytes]
    log: Path
    mark: str

    def said(self) -> str:
        """Return what it has printed."""
        return self.log.read_text(errors="replace")

    def end(self) -> int:
        """Wait for its end and that of its ranks; return the exit code."""
        code = self.process.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not self.processes(), self.said()
        return code

    def kill(self, rank: int | None) -> str:
        """Kill one rank, or everything."""
        ranks = self.processes()
        targets = [self.process.pid, *ranks] if rank is None else ranks[rank : rank + 1]
        for pid in targets:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        return ""

    def ask(self) -> str:
        """Ask torchrun to stop; it passes that on."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return ""

    def processes(self) -> list[int]:
        """Return the processes that it started, oldest first."""
        found = []
        for process in psutil.process_iter():
            try:
                if (
                    process.pid != self.process.pid
                    and process.status() != psutil.STATUS_ZOMBIE
                    and process.environ().get("WEEK_MARK") == self.mark
                ):
                    found.append((process.create_time(), process.pid))
            except psutil.Error:
                continue
        return [pid for _, pid in sorted(found)]


def count_lines(text: str, pattern: str) -> int:
    """Return how many lines have the pattern."""
    return sum(1 for line in text.splitlines() if re.search(pattern, line))


def tracebacks(text: str) -> list[str]:
    """Return the last line of every traceback of a rank, each once."""
    lines = re.findall(
        r"^(?:\[rank\d\]: ?)?((?:\w+\.)*\w*(?:Error|Exception): .{0,160})", text, re.M
    )
    return sorted(set(lines))
