"""A SLURM of two nodes on this machine, and jobs in it as a user submits them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT
from tests.waiting import until

SCRIPT = str(ROOT / "tests" / "cluster" / "slurm.sh")
# A limit for what hangs; nothing is expected to come near it.
HANGS = 600.0


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
        until(
            lambda: (
                not self._states()
                & {"PENDING", "RUNNING", "CONFIGURING", "COMPLETING", "REQUEUED", "SIGNALING"}
            ),
            f"job {self.id}",
        )
        return self._states()

    def output(self) -> str:
        """What it wrote, all tasks of an array one after the other."""
        return "\n".join(
            path.read_text(errors="replace") for path in sorted(self.log.parent.glob(self.log.name))
        )

    def _states(self) -> set[str]:
        return set(re.findall(r"JobState=(\S+)", self.facts()))


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
