"""Keeps attempts.jsonl: when each start of a run began, and how far it came, also if it is killed.

Its lines are never cut back: `alphadecay.inspect.run.goodput` reads from them what a restart cost.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from alphadecay.inspect.run.goodput import read_attempts
from alphadecay.inspect.run.parts import PARTS
from train.telemetry.json_lines import JsonLines


class AttemptLog:
    """The lines of this attempt; they are this process's own seconds, and rank 0 writes them.

    Args:
        path: attempts.jsonl.
        first_step: the step gone on from; 0 starts afresh.
        anew: the run begins again whatever lies in its folder: earlier attempts are another's, and
            are kept beside as `<name>.previous`.
        say: takes a line where the file cannot be written.
        now: the clock, seconds of time.time().
    """

    def __init__(
        self,
        path: Path,
        first_step: int,
        anew: bool,
        say: Callable[[str], None],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._first_step = first_step
        self._anew = anew
        self._say = say
        self._now = now
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._job = self._loop = now()
        self._number = 0
        self._lines: JsonLines | None = None

    def loop_begins(self, job_began: float) -> None:
        """Note that the start is over.

        Args:
            job_began: when the job did, its launcher's part included; seconds of time.time().
        """
        self._loop = self._now()
        self._job = min(job_began, self._loop)

    def open(self) -> None:
        """Write the first line; what comes before writes nothing."""
        lines = JsonLines(self._path, self._say)
        try:
            _prepare(self._path, self._anew)
        except OSError as error:  # goodput misses it; the run does not
            self._say(f"warning: {self._path}: {error.strerror or error}")
        earlier = read_attempts(self._path)
        # A launcher that starts its ranks again is older than what they did before: it never gave
        # the machines back, and all since the last sign of life is start.
        began = max([self._job, *(attempt.last.time for attempt in earlier)])
        self._number = len(earlier) + 1
        self._lines = lines
        lines.append(
            {
                "attempt": self._number,
                "began": min(began, self._loop),
                "loop": self._loop,
                "first_step": self._first_step,
            }
        )

    def add(self, seconds: Mapping[str, float]) -> None:
        """Take in seconds of this process by part of a step, since the call before."""
        for part, value in seconds.items():
            self._seconds[part] += value

    def note(self, step: int) -> None:
        """Leave a sign of life after a step."""
        if self._lines is not None:
            rounded = {part: round(value, 4) for part, value in self._seconds.items()}
            line = {"attempt": self._number, "time": self._now(), "step": step, "seconds": rounded}
            self._lines.append(line)

    def close(self) -> None:
        """End the file; a second call does nothing."""
        if self._lines is not None:
            self._lines.close()
            self._lines = None


def _prepare(path: Path, anew: bool) -> None:
    """Put an old file aside where it is another run's; else end a line that a kill has cut."""
    if anew and path.exists():
        os.replace(path, path.with_name(path.name + ".previous"))
    if path.exists():
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            if file.read(1) not in (b"", b"\n"):
                file.write(b"\n")
