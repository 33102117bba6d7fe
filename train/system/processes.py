"""Tells processes apart: of which machine, which job, and whether they still live."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
_SAME_START = 2.0  # seconds: where it is told by a clock, that may have been set


@dataclass(frozen=True)
class Holder:
    """A process, by what another one on any machine can know of it.

    Args:
        host: its machine's name.
        machine: its boot and its space of process numbers: where they are the same, numbers mean
            the same processes; containers share a name and not these.
        pid: its number.
        started: when it was started, as `started` tells it.
        job: its number in the scheduler; empty without one.
        nonce: of what it holds; not a part of the process.
    """

    host: str
    machine: str
    pid: int
    started: float
    job: str
    nonce: str = ""

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Holder:
        """Build it from JSON.

        Raises:
            KeyError, ValueError, TypeError: something is missing, or is no such thing.
        """
        return cls(
            str(facts["host"]),
            str(facts["machine"]),
            int(facts["pid"]),
            float(facts["started"]),
            str(facts["job"]),
            str(facts.get("nonce", "")),
        )

    def __str__(self) -> str:
        job = f"job {self.job}, " if self.job else ""
        return f"{job}process {self.pid} on {self.host}"

    def is_same_process(self, other: Holder) -> bool:
        """Return whether both are one process."""
        same_start = abs(self.started - other.started) < _SAME_START
        return (self.machine, self.pid) == (other.machine, other.pid) and same_start

    def alive_here(self) -> bool | None:
        """Return whether it lives; None where that cannot be seen from here."""
        if self.machine != _machine():
            return None
        import psutil

        try:
            same = abs(started(self.pid) - self.started) < _SAME_START
            return bool(same and psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE)
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            return False
        except psutil.Error:
            return None


def this_process() -> Holder:
    """Return this process."""
    job = next((os.environ[name] for name in _JOB_VARIABLES if os.environ.get(name)), "")
    return Holder(socket.gethostname(), _machine(), os.getpid(), started(os.getpid()), job)


def started(pid: int) -> float:
    """Return when a process was started: seconds since the boot, elsewhere than on Linux a date.

    A date is reckoned back from the clock, and another one once that is set: a living process
    would pass for a later one of its number.

    Raises:
        OSError, psutil.NoSuchProcess: there is none of this number.
    """
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        after_name = stat.read_text(errors="replace").rpartition(")")[2].split()
        return int(after_name[19]) / os.sysconf("SC_CLK_TCK")  # field 22 of proc(5)
    import psutil

    return float(psutil.Process(pid).create_time())


def process_start() -> float:
    """Return when this process was started, in the seconds of time.time(): imports count too."""
    import psutil

    return float(psutil.Process().create_time())


def _machine() -> str:
    """Return what tells this machine's process numbers from another's."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()
