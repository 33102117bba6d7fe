"""Tells how the runs of a grid stand, by their folders, their leases and SLURM's queue."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from alphadecay.inspect.run.metrics import PERPLEXITY
from alphadecay.inspect.run.words import number
from train.config.command_line import load_config
from train.config.deciding import other_settings
from train.config.run_folder import CONFIG, STATUS, SUMMARY
from train.errors import UserError
from train.experiments.grids.resolved_run import Planned
from train.loop.run_status import read_state
from train.system.files import write_atomically
from train.system.lease import Lease, LeaseTaken
from train.system.lease_files import is_held
from train.telemetry.summary import read_summary

Queue = Callable[[], Collection[str]]  # the jobs that SLURM has, waiting or running
State = Literal["missing", "queued", "running", "stopped", "finished", "failed"]
LEASE = "sweep"  # beside that of the run itself, which its program takes
JOB = "slurm.json"
KILLED = "killed"


@dataclass(frozen=True)
class RunStatus:
    """How a run stands.

    Args:
        state: queued is SLURM's; running, that a process or a job has it; stopped, that it goes on
            when started again.
        step: optimizer steps done, when state.json was last written.
        reason: why it stopped or failed; the job that it waits for.
    """

    state: State
    step: int = 0
    reason: str = ""


def run_status(folder: Path, queue: Queue, ours: bool = False) -> RunStatus:
    """Return how a run stands.

    Args:
        folder: its output folder.
        queue: asked where the run was submitted to SLURM.
        ours: this process has the run, and its program has ended or was not started.
    """
    written = read_state(folder)
    job = read_job(folder)
    state = str(written.get("state", "missing"))
    step = _whole(written.get("step"))
    reason = str(written.get("reason") or "")
    if not ours and is_held(folder, LEASE):
        return RunStatus("running", step)
    begun = not job or job["before"] != modified_ns(folder)
    if job and job["job"] in queue():
        in_queue: State = "running" if begun and state == "running" else "queued"
        return RunStatus(in_queue, step, f"job {job['job']}")
    if is_held(folder):  # by a program that no sweep started, or whose sweep is gone
        return RunStatus("running", step)
    if not begun:
        reason = f"job {job['job']} ended before the run began; its output says why"
        return RunStatus("failed", step, reason)
    if state == "running":
        return RunStatus("stopped", step, KILLED)
    if state in ("stopped", "finished", "failed"):
        return RunStatus(state, step, reason)  # type: ignore[arg-type]
    return RunStatus("missing")


def count(runs: Iterable[RunStatus]) -> str:
    """Count runs by state: "6 runs: 4 finished, 2 missing"."""
    states = Counter(now.state for now in runs)
    total = states.total()
    plural = "" if total == 1 else "s"
    parts = [f"{states[state]} {state}" for state in sorted(states)]
    return f"{total} run{plural}: {', '.join(parts)}"


def outcome(folder: Path) -> str:
    """Return the figure of merit of a finished run and its value; nothing where it has none."""
    summary = read_summary(folder / SUMMARY) or {}
    figure = summary.get("figure") or PERPLEXITY._asdict()
    value = summary.get(figure["name"])
    return f"{figure['label']} {number(value)}" if isinstance(value, (int, float)) else ""


def differences(planned: Planned) -> list[str]:
    """Return what the run in its folder was started with and would not be now.

    An entry reads "optim.lr was 0.001, is 0.002".
    """
    path = planned.run.folder / CONFIG
    if not path.is_file():
        return []
    try:
        was = load_config(["--config", str(path)])
    except UserError as error:
        return [f"its settings cannot be read: {error}"]
    return other_settings(was, planned.config)


def refuse_mixtures(runs: Collection[Planned]) -> None:
    """Refuse to run with other settings in a folder that was begun with others.

    Raises:
        UserError: some would.
    """
    changed = [(planned.run.folder, differences(planned)) for planned in runs]
    mixed = [(folder, settings) for folder, settings in changed if settings]
    if mixed:
        folder, settings = mixed[0]
        more = f" (and so have {len(mixed) - 1} other folders)" if len(mixed) > 1 else ""
        raise UserError(
            f"{folder} has a run with other settings{more}: {'; '.join(settings)}. Give the sweep "
            "the settings that it was begun with, or a --root of its own"
        )


# --- who has it -----------------------------------------------------------------------------


def take_run(folder: Path, say: Callable[[str], None]) -> Lease | None:
    """Return the right to start a run, or to submit runs; None where another sweep has it.

    Args:
        say: takes a line where it takes a while to see whether the other still lives.

    Raises:
        UserError: the folder cannot be written.
    """
    lease = Lease(folder, str(folder), "it is left to that one", say=say, name=LEASE)
    try:
        lease.take()
    except LeaseTaken:
        return None
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror}; mend it, or give the sweep another --root"
        ) from error
    return lease


def modified_ns(folder: Path) -> int:
    """Return a number that changes whenever the run's state is written; 0 where there is none."""
    try:
        return os.stat(folder / STATUS).st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return 0


def write_job(folder: Path, job: str, before: int) -> None:
    """Note that SLURM has the run.

    Args:
        before: the state's stamp when it was submitted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / JOB, json.dumps({"job": job, "before": before}) + "\n")


def read_job(folder: Path) -> dict[str, Any]:
    """Return what `write_job` noted last, or nothing where it never did."""
    try:
        job = json.loads((folder / JOB).read_text(encoding="utf-8"))
        return {"job": str(job["job"]), "before": int(job["before"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0
