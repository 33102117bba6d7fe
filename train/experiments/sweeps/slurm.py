"""Submits the runs of a grid as one job array of launch/slurm.

The array reads a line of overrides for each run; a note in each run's folder says who has it.
"""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from train.errors import UserError
from train.experiments.grids.resolved_run import Planned
from train.experiments.sweeps.sweep_status import modified_ns, write_job
from train.system.provenance import ROOT

SCRIPT = ROOT / "launch" / "slurm" / "torchrun.sbatch"
LISTS = "sweeps"


def queue() -> set[str]:
    """Return this user's jobs, waiting or running; tasks of an array as 123_4.

    Raises:
        UserError: there is no SLURM here to ask, or it does not answer.
    """
    if not shutil.which("squeue"):
        raise UserError(
            "runs of this grid were submitted to SLURM, and there is no squeue here to ask how "
            "they stand; run this where it is, or remove slurm.json from their folders"
        )
    command = ("squeue", "--noheader", "--array", "--user", getpass.getuser(), "--format=%i")
    return set(_slurm(*command).split())


def command_line(count: int, jobs: int | None, script: Path, grid: str) -> list[str]:
    """Return the command that submits `count` runs, at most `jobs` of them at a time."""
    throttle = f"%{jobs}" if jobs else ""
    return [
        "sbatch",
        "--parsable",
        f"--job-name={grid}",
        f"--array=1-{count}{throttle}",
        str(script),
    ]


def line(planned: Planned) -> str:
    """Return a run's arguments as launch/slurm/common.sh reads them: quoted as for a shell.

    Raises:
        UserError: one of them has a line break.
    """
    if any("\n" in word for word in planned.arguments):
        raise UserError(
            f"{planned.run.label}: an override with a line break cannot go into a job array"
        )
    return shlex.join(planned.arguments)


def submit(
    runs: Sequence[Planned],
    folder: Path,
    grid: str,
    jobs: int | None,
    ranks: int | None,
    script: Path,
    say: Callable[[str], None],
) -> None:
    """Submit runs that nobody has, from the project's folder.

    Args:
        runs: their output folders are absolute.
        folder: of the grid; the list of overrides is kept there, for tasks read it again when they
            are requeued.
        grid: the job's name.
        jobs: runs at a time; None leaves that to SLURM.
        ranks: on each node; None leaves that to the allocation.
        script: a job script of launch/slurm, or a copy of one.
        say: takes lines for the console.

    Raises:
        UserError: sbatch refuses.
    """
    text = "".join(f"{line(planned)}\n" for planned in runs)
    path = folder / LISTS / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    variables = {"SWEEP": str(path)}
    if ranks:
        variables["RANKS"] = str(ranks)
    # Read before they are submitted: the first tasks may run while the last are noted.
    before = [modified_ns(planned.run.folder) for planned in runs]
    job = _slurm(*command_line(len(runs), jobs, script, grid), **variables).strip().split(";")[0]
    for task, (planned, modified) in enumerate(zip(runs, before, strict=True), start=1):
        write_job(planned.run.folder, f"{job}_{task}", modified)
    plural = "" if len(runs) == 1 else "s"
    say(f"submitted {len(runs)} run{plural} as job {job}; task k has line k of {path}")


def _slurm(*command: str, **variables: str) -> str:
    """Return what one of SLURM's commands prints."""
    try:
        done = subprocess.run(command, env=os.environ | variables, text=True, capture_output=True)
    except OSError as error:
        raise UserError(
            f"cannot run {command[0]}: {error.strerror}; submit where SLURM is"
        ) from error
    if done.returncode:
        lines = [text.strip() for text in done.stderr.splitlines() if text.strip()]
        reason = lines[-1] if lines else f"it ended with {done.returncode}"
        raise UserError(f"{shlex.join(command)}: {reason}")
    return done.stdout
