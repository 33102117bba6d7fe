"""A bad week in minutes: one run that is killed, stopped, crowded and let down by its disk.

python -m tests.trials.bad_week --out tests/trials/results/bad-week.json
python -m tests.trials.bad_week --under slurm --out tests/trials/results/bad-week-slurm.json

Two ranks under torchrun, which starts dead ones again; or as a job of two nodes in a SLURM that the
trial makes of this machine (root, and the packages of tests/cluster/packages.txt). A queue starts
the same command until the run is finished. Meanwhile, drawn from a seed: kill -9 of a rank, of a
launcher and of everything, SIGTERM, the stop file, a second job in the same folder, and ESTALE, EIO
and ENOSPC in the file calls of every rank; under SLURM the signal ahead of the time limit too. Near
its end a step ruins the weights: the run stops for good, and a person takes the way back that its
message names. At the end its figures must be those of a run that nobody disturbed, to the bit.

With --folder the same command goes on where --minutes ended it (exit code 75).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.integration.program import figures
from tests.trials.kill import versions
from tests.trials.launchers import Launcher, launcher
from tests.trials.started import PATIENCE, Started, count_lines, tracebacks
from tests.trials.week_files import EVERY, newest_step, recipe_path, write_week
from train.checkpoint import find
from train.loop.run_status import read_state

# After these the start goes on, and is asked to stop some steps later.
GOES_ON = ("kill -9 of a rank", "second job", "SIGUSR1 and a requeue")
NOTHING = "nothing"
STEP_SECONDS = 0.1  # so that something can happen between two steps
TO_BE_CONTINUED = 75


class OutOfTime(Exception):
    """The trial has taken its minutes; what is done is noted."""


class Week:
    """One run and what happens to it.

    Args:
        folder: corpus, recipe, output folders, and the notes by which the trial goes on.
        under: starts the run.
        given: the options: steps, seed, share, minutes.

    Attributes:
        starts: one entry a start: what was done to it, and how it ended.
    """

    def __init__(self, folder: Path, under: Launcher, given: argparse.Namespace) -> None:
        self.folder = folder
        self.run = folder / "run"
        self._under = under
        self._given = given
        self._hold = folder / "hold"  # ranks take no step while it is there
        self._notes = folder / "notes.json"
        known = json.loads(self._notes.read_text()) if self._notes.exists() else {}
        self.starts: list[dict[str, Any]] = known.get("starts", [])
        self._back: str = known.get("back", "")
        self._before = float(known.get("seconds", 0.0))
        self._began = time.monotonic()
        self._all: list[Started] = []
        self._chance = random.Random(f"{given.seed} {len(self.starts)}")
        self.events: dict[str, Callable[[Started], None]] = {
            "kill -9 of a rank": lambda started: started.kill(self._one(started.ranks())),
            "kill -9 of a launcher": lambda started: started.kill(self._one(started.launchers())),
            "kill -9 of all": lambda started: started.kill(*started.processes()),
            "SIGTERM": lambda started: started.ask(),
            "stop file": lambda _: (self.run / "stop").touch(),
            "second job": lambda _: self._second_job(),
            **under.events,
        }

    @property
    def seconds(self) -> float:
        """Seconds of the trial so far."""
        return round(self._before + time.monotonic() - self._began, 1)

    # --- a start ---------------------------------------------------------------------------

    def start(
        self, name: str, *more: str, faulty: bool = True, ruin: int = 0, restarts: int = 3
    ) -> Started:
        """Start the run as a queue would."""
        output_dir = str(self.folder / name)
        arguments = ["--config", str(recipe_path(self.folder)), "--output_dir", output_dir, *more]
        added = {"STEP_SECONDS": str(STEP_SECONDS), "HOLD": str(self._hold)}
        if ruin:
            added["RUIN_AT"] = str(ruin)
        if faulty:
            added |= {"FAULTS_BELOW": output_dir, "FAULTS_SHARE": str(self._given.share)}
            added |= {"FAULTS_SEED": str(self._chance.random())}
        started = self._under.start(arguments, added, f"{name}-{time.time_ns()}", restarts)
        self._all.append(started)
        return started

    def leave(self) -> None:
        """Leave no process behind, however the trial ends."""
        for started in self._all:
            started.kill(*started.processes())

    def undisturbed(self) -> list[Any]:
        """Return the figures of a run that nobody disturbs."""
        whole = self.folder / "whole"
        if read_state(whole).get("state") != "finished":
            started = self.start("whole", faulty=False)
            assert started.end() == 0, started.said()
        return figures(whole)

    # --- what happens ----------------------------------------------------------------------

    def disturb(self, until: int) -> None:
        """Start the run again and again, and disturb each start, until it is at a step."""
        while not self._back and self._step() < until:
            before = self._step()
            wanted = min(before + EVERY * self._chance.randint(1, 2), until)
            started = self.start("run")
            event = NOTHING
            if self._wait(started, wanted):
                event = self._next_event()
                self.events[event](started)
            if event in GOES_ON and self._wait(started, wanted + EVERY):
                started.ask()
            self._note(started, event, before)

    def ruin(self) -> None:
        """Let a step ruin the weights, and note the checkpoint that the message names."""
        at = self._step() + EVERY + 3
        started = self.start("run", faulty=False, ruin=at)
        started.end()
        found = re.search(r"The newest checkpoint is (\S+):", started.said())
        assert found is not None, started.said()
        good = find(found[1], self.run / "checkpoints", print)
        assert good is not None and good.step < at, good
        self._back = found[1]
        self._note(started, "a step ruins the weights", at)

    def refuse(self) -> None:
        """Start what has diverged again: it must be refused."""
        again = self.start("run", faulty=False)
        again.end()
        assert "has diverged with the same settings" in again.said(), again.said()
        self._note(again, "the same command after that", self._step())

    def finish(self) -> None:
        """Start it until it is finished, from the checkpoint that the message named."""
        while read_state(self.run).get("state") != "finished":
            before = self._step()
            started = self.start("run", "--resume", self._back)
            started.end()
            self._note(started, NOTHING, before)
            assert len(self.starts) < 100, "it does not come to an end"

    def go_through(self, until: int) -> None:
        """Do what is left of the week.

        Raises:
            OutOfTime: the same goes on later.
        """
        self.disturb(until)
        if not self._back:
            self.ruin()
        if self.starts[-1]["event"] == "a step ruins the weights":
            self.refuse()
        self.finish()

    def _next_event(self) -> str:
        """Return what comes next: everything once, in an order drawn from the seed, and again."""
        done = sum(1 for entry in self.starts if entry["event"] in self.events)
        round_, place = divmod(done, len(self.events))
        names = list(self.events)
        random.Random(f"{self._given.seed} round {round_}").shuffle(names)
        return names[place]

    def _one(self, pids: list[int]) -> int:
        return self._chance.choice(pids)

    def _second_job(self) -> None:
        self._hold.touch()
        second = self.start("run", faulty=False, restarts=0)
        second.end()
        self._hold.unlink()
        assert "is held by" in second.said(), second.said()

    def _step(self) -> int:
        return int(read_state(self.run).get("step") or 0)

    def _wait(self, started: Started, step: int) -> bool:
        """Return whether the run came to a step before the start ended."""
        deadline = time.monotonic() + PATIENCE
        while newest_step(self.run, started.began_ns) < step:
            if started.ended():
                return False
            assert time.monotonic() < deadline, started.said()
            time.sleep(0.1)
        return True

    def _note(self, started: Started, event: str, before: int) -> None:
        """Note how a start ended, once it has.

        Raises:
            OutOfTime: the minutes are over.
        """
        code = started.end()
        said = started.said()
        entry = {
            "seconds": self.seconds,
            "event": event,
            "from_step": before,
            "to_step": self._step(),
            "code": code,
            "state": read_state(self.run).get("state"),
            "faults_told": count_lines(said, r"warning|passing over|NOT saved|Errno|error:"),
            "errors": self._lines(said, r"^(?:\[\w+\]:)?error: .{0,160}"),
            "tracebacks": self._without_folder(tracebacks(said)),
        }
        self.starts.append(entry)
        notes = {"starts": self.starts, "back": self._back, "seconds": self.seconds}
        self._notes.write_text(json.dumps(notes))
        print(json.dumps(entry), flush=True)
        if time.monotonic() - self._began > 60 * self._given.minutes:
            raise OutOfTime

    def _lines(self, said: str, pattern: str) -> list[str]:
        return self._without_folder(sorted(set(re.findall(pattern, said, re.M))))

    def _without_folder(self, lines: list[str]) -> list[str]:
        return [line.replace(str(self.folder), "WEEK") for line in lines]


def outcome(week: Week, given: argparse.Namespace, whole: list[Any]) -> dict[str, Any]:
    """Return what is to be kept of a week."""
    return {
        **versions(),
        "under": given.under,
        "steps": given.steps,
        "seed": given.seed,
        "share_of_file_calls_that_fail": given.share,
        "seconds": week.seconds,
        "same_figures": figures(week.run) == whole,
        "events": Counter(entry["event"] for entry in week.starts),
        "starts": week.starts,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--under", choices=("torchrun", "slurm"), default="torchrun")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--share", type=float, default=0.005, help="of the file calls that fail")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep the week there, and go on with it")
    parser.add_argument("--minutes", type=float, default=1e6, help="end after these")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with ExitStack() as stack:
        place = given.folder or stack.enter_context(tempfile.TemporaryDirectory())
        folder = Path(place).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        path = write_week(folder, given.steps)
        week = Week(folder, stack.enter_context(launcher(given.under, folder, path)), given)
        stack.callback(week.leave)
        whole = week.undisturbed()
        try:
            week.go_through(given.steps * 2 // 3)
        except OutOfTime:
            return TO_BE_CONTINUED
        kept = outcome(week, given, whole)
        given.out.write_text(json.dumps(kept, indent=1) + "\n")
        assert kept["same_figures"], "the figures differ from those of the undisturbed run"
        left = set(week.events) - set(kept["events"])
        assert not left, f"the run was too short for {', '.join(sorted(left))}"
    return 0


if __name__ == "__main__":
    sys.exit(main())
