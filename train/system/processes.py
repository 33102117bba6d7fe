"""Tells processes apart: of which machine, which job, and whether they still live."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
_SAME_START = 2.0  # seconds: psutil derives a start from a clock that may be set


@dataclass(frozen=True)
class Holder:
    """A process, by what another one on any machine can know of it.

    Args:
        host: its machine's name.
        machine: its boot and its space of process numbers: where they are the same, numbers mean
            the same processes; containers share a name and not these.
        pid: its number.
        started: when it was started, seconds of its own clock.
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
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < _SAME_START
            return bool(same and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return False
        except psutil.Error:
            return None


def this_process() -> Holder:
    """Return this process."""
    job = next((os.environ[name] for name in _JOB_VARIABLES if os.environ.get(name)), "")
    return Holder(socket.gethostname(), _machine(), os.getpid(), process_start(), job)


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
