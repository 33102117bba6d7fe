"""How the runs of a grid stand: by their folders, by who holds them, and by what SLURM has of them."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from train.config import HOW_IT_COMPUTES, TrainConfig
from train.config.command_line import load_config
from train.config.run_folder import CONFIG, STATUS, SUMMARY
from train.errors import UserError
from train.experiments.grids.resolved_run import Planned
from train.loop.run_status import read_state
from train.telemetry.summary import read_summary
from train.system.files import write_atomically

Queue = Callable[[], Collection[str]]  # the jobs that SLURM has, waiting or running
State = Literal["missing", "queued", "running", "stopped", "finished", "failed"]
LOCK = "sweep.lock"
JOB = "slurm.json"
KILLED = "killed"
# What a run may go on with differently: where and how it computes, and what it keeps, not what it
# trains.
_SECTIONS = ("checkpoint", "deepspeed", "log")
_FREE = {"name", "output_dir", "resume", "data.directory", "data.workers", "eval.micro_batch"}
_FREE |= {f"run.{key}" for key in ("micro_batch", "max_hours", "max_skipped_steps", "spike_sd")}
_FREE |= {f"model.{key}" for key in HOW_IT_COMPUTES}


@dataclass(frozen=True)
class Standing:
    """Args:
    state: queued is SLURM's; running, that a process or a job has it; stopped, that it goes on when
        started again.
    step: optimizer steps done, when state.json was last written.
    reason: why it stopped or failed; the job that it waits for.
    """

    state: State
    step: int = 0
    reason: str = ""


def standing(folder: Path, queue: Queue, ours: bool = False) -> Standing:
    """How a run stands.

    Args:
        folder: its output folder.
        queue: asked where the run was submitted to SLURM.
        ours: this process holds the run, and its program has ended.
    """
    found = read_state(folder)
    job = read_job(folder)
    state = str(found.get("state", "missing"))
    step = _whole(found.get("step"))
    reason = str(found.get("reason") or "")
    if not ours and is_locked(folder):
        return Standing("running", step)
    begun = not job or job["before"] != modified_ns(folder)
    if job and job["job"] in queue():
        return Standing(
            "running" if begun and state == "running" else "queued", step, f"job {job['job']}"
        )
    if not begun:
        return Standing(
            "failed", step, f"job {job['job']} ended before the run began; its output says why"
        )
    if state == "running":
        return Standing("stopped", step, KILLED)
    if state in ("stopped", "finished", "failed"):
        return Standing(state, step, reason)  # type: ignore[arg-type]
    return Standing("missing")


def count(runs: Iterable[Standing]) -> str:
    """How many runs stand how: "6 runs: 4 finished, 2 missing"."""
    states = Counter(now.state for now in runs)
    total = states.total()
    return f"{total} run{'s' * (total != 1)}: " + ", ".join(
        f"{states[state]} {state}" for state in sorted(states)
    )


def perplexity(folder: Path) -> float | None:
    """Of a finished run, on validation."""
    value = (read_summary(folder / SUMMARY) or {}).get("val_perplexity")
    return float(value) if isinstance(value, (int, float)) else None


def differences(planned: Planned) -> list[str]:
    """What the run in its folder was started with and would not be now: "optim.lr was 0.001, is
    0.002".
    """
    path = planned.run.folder / CONFIG
    if not path.is_file():
        return []
    try:
        was = load_config(["--config", str(path)])
    except UserError as error:
        return [f"its settings cannot be read: {error}"]
    return changes(was, planned.config)


def changes(was: TrainConfig, now: TrainConfig) -> list[str]:
    """Settings of a run that decide what it trains and are not the same: "optim.lr was 0.001, is
    0.002".
    """
    before = _flat(was)
    after = _flat(now)
    return [
        f"{key} was {before[key]}, is {value}"
        for key, value in after.items()
        if before[key] != value
    ]


def refuse_mixtures(runs: Collection[Planned]) -> None:
    """Runs with other settings do not share a folder.

    Raises:
        UserError: some would.
    """
    mixed = [(planned.run.folder, found) for planned in runs if (found := differences(planned))]
    if mixed:
        folder, found = mixed[0]
        more = f" (and so have {len(mixed) - 1} other folders)" if len(mixed) > 1 else ""
        raise UserError(
            f"{folder} has a run with other settings{more}: {'; '.join(found)}. Give the sweep the "
            "settings that it was begun with, or a --root of its own"
        )


# --- who has it
# -------------------------------------------------------------------------------------------------


def acquire_lock(folder: Path) -> IO[bytes] | None:
    """The run's lock, which every process that inherits the file holds until it ends; None where
    another has it.

    Raises:
        UserError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("ab")
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror}; mend it, or give the sweep another --root"
        ) from error
    for _ in range(5):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            time.sleep(0.02)  # somebody who only looks has it for a moment
        except OSError as error:
            raise UserError(
                f"cannot lock {folder / LOCK}: {error.strerror}; give the sweep a --root where "
                "files can be locked"
            ) from error
    file.close()
    return None


def is_locked(folder: Path) -> bool:
    """Whether a sweep's process has the run."""
    try:
        with (folder / LOCK).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is none, or no locks at all
        return False
    return False


def modified_ns(folder: Path) -> int:
    """Changes whenever the run's state is written; 0 where there is none."""
    try:
        return os.stat(folder / STATUS).st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return 0


def write_job(folder: Path, job: str, before: int) -> None:
    """Notes that SLURM has the run.

    Args:
        before: the state's stamp when it was submitted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / JOB, json.dumps({"job": job, "before": before}) + "\n")


def read_job(folder: Path) -> dict[str, Any]:
    """What write_job noted last; empty where it never did."""
    try:
        found = json.loads((folder / JOB).read_text(encoding="utf-8"))
        return {"job": str(found["job"]), "before": int(found["before"])}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _flat(config: TrainConfig) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in dataclasses.asdict(config).items():
        if isinstance(value, dict) and key not in _SECTIONS:
            found.update({f"{key}.{leaf}": own for leaf, own in value.items()})
        elif not isinstance(value, dict):
            found[key] = value
    return {key: value for key, value in found.items() if key not in _FREE}
