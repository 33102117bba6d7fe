"""A SLURM of two nodes on this machine, and jobs in it as a user submits them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT
from tests.waiting import until

SCRIPT = str(ROOT / "tests" / "cluster" / "slurm.sh")
# A limit for what hangs; nothing is expected to come near it.
HANGS = 600.0
PROGRAMS = ("slurmctld", "slurmd", "munged", "ip", "nsenter")
IN_QUEUE = {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "SIGNALING"}


@dataclass
class Job:
    """A job that was submitted: its id, and the file that it writes to."""

    box: Box
    id: str
    log: Path

    def facts(self) -> str:
        """What SLURM says of it; of each task for an array."""
        return self.box.client("scontrol", "show", "job", "-o", self.id)

    def end(self) -> set[str]:
        """Its state or its tasks' states after its end, e.g. {"COMPLETED"}."""
        until(self.ended, f"job {self.id}")
        return self._states()

    def ended(self) -> bool:
        """Whether it and all its tasks have left the queue."""
        return not self._states() & IN_QUEUE

    def output(self) -> str:
        """What it wrote, all tasks of an array one after the other."""
        return "\n".join(
            path.read_text(errors="replace") for path in sorted(self.log.parent.glob(self.log.name))
        )

    def _states(self) -> set[str]:
        return set(re.findall(r"JobState=(\S+)", self.facts()))


def why_no_box() -> str:
    """Why there can be no such SLURM here; empty where there can."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        return f"needs {', '.join(missing)}: see tests/cluster/packages.txt, or make cluster"
    return "" if os.geteuid() == 0 else "needs root, for network namespaces"


@dataclass
class Box:
    """Args:
    folder: of the daemons' files.
    """

    folder: Path

    def up(self) -> None:
        """Starts it."""
        subprocess.run([SCRIPT, "up", str(self.folder / "slurm"), "2"], check=True, timeout=HANGS)

    def down(self) -> None:
        """Ends it and every process that is left in it."""
        subprocess.run([SCRIPT, "down", str(self.folder / "slurm")], check=True, timeout=HANGS)

    def client(self, *command: str, **variables: str) -> str:
        """The output of a SLURM command, in an environment that has nothing of the tests'."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "LANG": "C.UTF-8",
        } | variables
        whole = [SCRIPT, "run", str(self.folder / "slurm"), *command]
        done = subprocess.run(
            whole,
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=HANGS,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def inside(self, host: str, *command: str) -> None:
        """Runs a command with the mounts that jobs on that node have."""
        subprocess.run(
            [SCRIPT, "inside", str(self.folder / "slurm"), host, *command],
            check=True,
            timeout=HANGS,
        )

    def submit(
        self, script: Path, *arguments: str, options: tuple[str, ...] = (), **variables: str
    ) -> Job:
        """sbatch from the project's folder."""
        log = self.folder / f"{script.stem}-%A_%a.out"
        said = self.client(
            "sbatch",
            "--parsable",
            f"--output={log}",
            *options,
            str(script),
            *arguments,
            **variables,
        )
        number = said.strip().split(";")[0]
        return Job(self, number, Path(str(log).replace("%A_%a", f"{number}_*")))


def edited(shipped: str, folder: Path, recipe: Path) -> Path:
    """A copy of a shipped job script with the three lines edited that a user edits."""
    environment = folder / "environment.sh"
    on_cpus = "DS_ACCELERATOR=cpu OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false"
    environment.write_text(
        f"export PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={ROOT} {on_cpus}\n"
    )
    edits = {
        r"#SBATCH --account=.*": "#SBATCH --partition=box --nodes=2 --time=30",
        r"ENVIRONMENT=.*": f"ENVIRONMENT={environment}",
        r"RECIPE=.*": f"RECIPE={recipe}",
    }
    text = (ROOT / "launch" / "slurm" / shipped).read_text()
    for pattern, line in edits.items():
        text, count = re.subn(rf"^{pattern}$", line, text, flags=re.MULTILINE)
        assert count == 1, pattern
    copy = folder / shipped
    copy.write_text(text)
    return copy
