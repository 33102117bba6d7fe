"""What starts the run of a bad week: torchrun, or a job of a SLURM made of this machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from tests.cluster.box import Box, Job, edited, why_no_box
from tests.integration.program import command, environment
from tests.trials.started import MARK, Started, TorchrunStarted

DISTURBED = str(Path(__file__).with_name("disturbed.py"))
# Stands for the interpreter that torchrun starts ranks with: "-u train/pretrain.py ARGUMENTS".
INTERPRETER = """#!/bin/bash
shift 2
exec {python} -u {program} "$@"
"""


class Launcher(Protocol):
    """Starts two ranks as a queue or a user does.

    Attributes:
        events: what can happen to a start here and nowhere else, by name.
    """

    events: Mapping[str, Callable[[Started], None]]

    def start(
        self, arguments: list[str], variables: Mapping[str, str], mark: str, restarts: int
    ) -> Started:
        """Start the program.

        Args:
            variables: more of its environment.
            restarts: times that dead ranks are started again.
        """


class Torchrun:
    """torchrun on this machine."""

    events: Mapping[str, Callable[[Started], None]] = {}

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(
        self, arguments: list[str], variables: Mapping[str, str], mark: str, restarts: int
    ) -> Started:
        """Start torchrun."""
        options = ("--max-restarts", str(restarts))
        line = command("torchrun", *arguments, program=DISTURBED, options=options)
        # as launch/torchrun.sh
        added = dict(variables) | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        return TorchrunStarted(line, self._folder, environment(**added), mark)


class SlurmStarted(Started):
    """One job that was submitted, with all its requeues."""

    def __init__(self, job: Job, mark: str) -> None:
        super().__init__(mark)
        self.job = job

    def said(self) -> str:
        """Return what the job and the first rank of each node have printed."""
        return self.job.output()

    def ended(self) -> bool:
        """Return whether it has left the queue."""
        return self.job.ended()

    def code(self) -> int:
        """Return the exit code of the job script, or the signal that ended it as a shell would."""
        [(code, number)] = re.findall(r" ExitCode=(\d+):(\d+)", self.job.facts())
        return int(code) or (128 + int(number) if int(number) else 0)

    def launchers(self) -> list[int]:
        """Return the torchrun of each node."""
        return [pid for pid in self.processes() if pid not in self.ranks() and _is_torchrun(pid)]

    def ask(self) -> None:
        """Ask the job script to stop; it does so without a requeue."""
        self.signal("TERM")

    def signal(self, name: str) -> None:
        """Send the job script a signal; nothing happens to a job that has ended."""
        if not self.ended():
            self.job.box.client("scancel", "--batch", f"--signal={name}", self.job.id)


class Slurm:
    """Jobs of two nodes, each with one rank.

    Args:
        box: the SLURM.
        recipe: what the job script trains.
    """

    def __init__(self, box: Box, recipe: Path) -> None:
        self.events = {"SIGUSR1 and a requeue": self._requeue}
        self._box = box
        self._script = edited("torchrun.sbatch", box.folder, recipe)
        # a second job must find room beside the first
        self._script.write_text(self._script.read_text().replace(" --exclusive", ""))
        self._interpreter = box.folder / "interpreter.sh"

    def start(
        self, arguments: list[str], variables: Mapping[str, str], mark: str, restarts: int
    ) -> Started:
        """Submit the job script as it is shipped, with a program that is disturbed."""
        python = command("python")[0]
        self._interpreter.write_text(INTERPRETER.format(python=python, program=DISTURBED))
        self._interpreter.chmod(0o755)
        added = dict(variables) | {MARK: mark, "PREFLIGHT": "no", "MAX_RESTARTS": str(restarts)}
        added["PYTHON_EXEC"] = str(self._interpreter)
        return SlurmStarted(self._box.submit(self._script, *arguments, **added), mark)

    def _requeue(self, started: Started) -> None:
        """Ask as SLURM does ahead of the time limit."""
        assert isinstance(started, SlurmStarted)
        started.signal("USR1")


@contextmanager
def launcher(under: str, folder: Path, recipe: Path) -> Iterator[Launcher]:
    """Give what starts the run, for as long as it is there.

    Args:
        under: torchrun or slurm.

    Raises:
        SystemExit: there is no SLURM here, and why.
    """
    if under == "torchrun":
        yield Torchrun(folder)
        return
    if reason := why_no_box():
        raise SystemExit(f"no SLURM to try it under: {reason}")
    # its jobs are numbered from 1, and their logs grow: each time a folder of its own
    box = Box(folder / f"box-{len(list(folder.glob('box-*')))}")
    box.folder.mkdir()
    try:
        box.up()
        yield Slurm(box, recipe)
    finally:
        box.down()


def _is_torchrun(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"torch.distributed.run" in words and b"python" in words[0]
