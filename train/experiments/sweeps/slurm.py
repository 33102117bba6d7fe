"""The runs of a grid as one job array of launch/slurm: a line of overrides for each, and a note in
each run's folder of who has it.
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
from train.experiments.sweeps.run_standing import modified_ns, write_job
from train.system.provenance import ROOT

SCRIPT = ROOT / "launch" / "slurm" / "torchrun.sbatch"
LISTS = "sweeps"


def queue() -> set[str]:
    """This user's jobs, waiting or running; tasks of an array as 123_4.

    Raises:
        UserError: there is no SLURM here to ask, or it does not answer.
    """
    if not shutil.which("squeue"):
        raise UserError(
            "runs of this grid were submitted to SLURM, and there is no squeue here to ask how "
            "they stand; run this where it is, or remove slurm.json from their folders"
        )
    return set(
        _slurm(
            "squeue", "--noheader", "--array", "--user", getpass.getuser(), "--format=%i"
        ).split()
    )


def command_line(count: int, jobs: int | None, script: Path, grid: str) -> list[str]:
    """What submits `count` runs, at most `jobs` of them at a time."""
    throttle = f"%{jobs}" if jobs else ""
    return [
        "sbatch",
        "--parsable",
        f"--job-name={grid}",
        f"--array=1-{count}{throttle}",
        str(script),
    ]


def line(planned: Planned) -> str:
    """A run's arguments, as launch/slurm/common.sh reads them: words quoted as for a shell.

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
    """Submits runs that nobody has, from the project's folder.

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
    path.write_text(text)
    variables = {"SWEEP": str(path)} | ({"RANKS": str(ranks)} if ranks else {})
    # not after: the first tasks may run while the last are noted
    before = [modified_ns(planned.run.folder) for planned in runs]
    job = _slurm(*command_line(len(runs), jobs, script, grid), **variables).strip().split(";")[0]
    for task, (planned, stood) in enumerate(zip(runs, before, strict=True), start=1):
        write_job(planned.run.folder, f"{job}_{task}", stood)
    say(
        f"submitted {len(runs)} run{'s' * (len(runs) != 1)} as job {job}; task k has line k of "
        f"{path}"
    )


def _slurm(*command: str, **variables: str) -> str:
    """What one of SLURM's commands prints."""
    try:
        done = subprocess.run(command, env=os.environ | variables, text=True, capture_output=True)
    except OSError as error:
        raise UserError(
            f"cannot run {command[0]}: {error.strerror}; submit where SLURM is"
        ) from error
    if done.returncode:
        said = [text.strip() for text in done.stderr.splitlines() if text.strip()] or [
            f"it ended with {done.returncode}"
        ]
        raise UserError(f"{shlex.join(command)}: {said[-1]}")
    return done.stdout
