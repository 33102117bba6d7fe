"""A bad week in minutes: one run that is killed, stopped, crowded and let down by its disk.

python -m tests.trials.bad_week --out tests/trials/results/bad-week.json

Two ranks under torchrun, which starts dead ones again. A queue starts the same command until the
run is finished. Meanwhile, drawn from a seed: kill -9 of a rank or of everything, SIGTERM, the stop
file, a second job in the same folder, and ESTALE, EIO and ENOSPC in the file calls of every rank.
Near its end a step ruins the weights: the run stops for good, and a person takes the way back that
its message names. At the end its figures must be those of a run that nobody disturbed, to the bit.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.program import (
    command,
    environment,
    figures,
    recipe,
    write_corpus,
    write_recipe,
)
from tests.trials.started import PATIENCE, Started, count_lines, tracebacks
from train.checkpoint import find
from train.loop.run_status import read_state

DISTURBED = str(Path(__file__).with_name("disturbed.py"))
EVERY = 10  # steps between checkpoints
GOES_ON = ("second job", "kill -9 of a rank")  # after these the start is asked to stop
STEP_SECONDS = 0.1  # so that something can happen between two steps


@dataclass
class Week:
    """One run and what happens to it.

    Args:
        folder: corpus, recipe and output folders.
        steps: of the run.
        share: of the file calls that fail.
        starts: one entry a start: what was done to it, and how it ended.
    """

    folder: Path
    steps: int
    share: float
    chance: random.Random
    starts: list[dict[str, Any]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        values = recipe(write_corpus(self.folder / "corpus"), self.folder / "prepared")
        values["run"] |= {"steps": self.steps, "global_batch": 2, "max_skipped_steps": 3}
        values["eval"] = {"every": self.steps // 3, "tokens": 512}
        values["optim"] |= {"weight_decay": 0.0}  # an infinite step times a decay is refused
        values["decay"] = {"method": "none"}
        values["checkpoint"] = {"every": EVERY, "keep": 3, "max_failures": 1000}
        self._recipe = write_recipe(self.folder / "recipe.yaml", values)
        self.run = self.folder / "run"
        self._hold = self.folder / "hold"  # ranks take no step while it is there

    # --- a start ---------------------------------------------------------------------------

    def start(self, name: str, *more: str, faulty: bool = True, ruin: int = 0) -> Started:
        """Start torchrun as a queue would."""
        output_dir = str(self.folder / name)
        options = ("--max-restarts", "3")
        arguments = ("--config", str(self._recipe), "--output_dir", output_dir, *more)
        mark = f"{name}-{time.monotonic_ns()}"
        added = {"WEEK_MARK": mark, "STEP_SECONDS": str(STEP_SECONDS), "HOLD": str(self._hold)}
        added["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # as launch/torchrun.sh
        if ruin:
            added["RUIN_AT"] = str(ruin)
        if faulty:
            seed = str(self.chance.random())
            added |= {"FAULTS_BELOW": output_dir, "FAULTS_SHARE": str(self.share)}
            added |= {"FAULTS_SEED": seed}
        log = self.folder / f"{mark}.log"
        with log.open("w") as output:
            process = subprocess.Popen(
                command("torchrun", *arguments, program=DISTURBED, options=options),
                cwd=self.folder,
                env=environment(**added),
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Started(process, log, mark)

    def undisturbed(self) -> list[Any]:
        """Return the figures of a run that nobody disturbs."""
        started = self.start("whole", faulty=False)
        assert started.end() == 0, started.said()
        return figures(self.folder / "whole")

    # --- what happens ----------------------------------------------------------------------

    def disturb(self, until: int) -> None:
        """Start the run again and again, and disturb each start, until it is at a step."""
        events: dict[str, Callable[[Started], str]] = {
            "kill -9 of a rank": lambda started: started.kill(self.chance.choice([0, 1])),
            "kill -9 of all": lambda started: started.kill(None),
            "SIGTERM": lambda started: started.ask(),
            "stop file": lambda _: self._touch_stop(),
            "second job": lambda _: self._second_job(),
        }
        names = list(events)
        self.chance.shuffle(names)
        while self._step() < until:
            before = self._step()
            started = self.start("run")
            event = names[len(self.starts) % len(names)]
            wanted = before + EVERY * self.chance.randint(1, 3)
            what = "nothing"
            if self._wait(started, wanted):
                what = event
                found = events[event](started)
                what += f": {found}" if found else ""
            if event in GOES_ON and self._wait(started, self._step() + EVERY):
                started.ask()
            self._note(started, what, before)

    def ruin(self) -> str:
        """Let a step ruin the weights, and return the checkpoint that the message names."""
        at = min(self._step() + EVERY + 3, self.steps - 5)
        started = self.start("run", faulty=False, ruin=at)
        started.end()
        self._note(started, f"the weights are ruined in step {at}", at)
        found = re.search(r"The newest checkpoint is (\S+):", started.said())
        assert found is not None, started.said()
        good = find(found[1], self.run, print)
        assert good is not None and good.step < at, good
        again = self.start("run", faulty=False)
        again.end()
        assert "has diverged with the same settings" in again.said(), again.said()
        self._note(again, "the same command again", at)
        return found[1]

    def finish(self, *more: str) -> None:
        """Start it until it is finished."""
        while read_state(self.run).get("state") != "finished":
            before = self._step()
            started = self.start("run", *more)
            started.end()
            self._note(started, "nothing", before)
            assert len(self.starts) < 100, "it does not come to an end"

    def _second_job(self) -> str:
        self._hold.touch()
        second = self.start("run", faulty=False)
        second.end()
        self._hold.unlink()
        assert "is held by" in second.said(), second.said()
        return "refused"

    def _touch_stop(self) -> str:
        (self.run / "stop").touch()
        return ""

    def _step(self) -> int:
        return int(read_state(self.run).get("step") or 0)

    def _wait(self, started: Started, step: int) -> bool:
        """Return whether the run came to a step before the start ended."""
        deadline = time.monotonic() + PATIENCE
        while self._step() < step:
            if started.process.poll() is not None:
                return False
            assert time.monotonic() < deadline, started.said()
            time.sleep(0.02)
        return True

    def _note(self, started: Started, what: str, before: int) -> None:
        code = started.end()
        said = started.said()
        entry = {
            "seconds": round(time.monotonic() - self.began, 1),
            "event": what,
            "from_step": before,
            "to_step": self._step(),
            "code": code,
            "state": read_state(self.run).get("state"),
            "faults_told": count_lines(said, r"warning|passing over|NOT saved|Errno|error:"),
            "errors": sorted(set(re.findall(r"^(?:\[rank\d\]:)?error: .{0,160}", said, re.M))),
            "tracebacks": tracebacks(said),
        }
        self.starts.append(entry)
        print(json.dumps(entry), flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--share", type=float, default=0.01, help="of the file calls that fail")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        week = Week(Path(folder).resolve(), given.steps, given.share, random.Random(given.seed))
        whole = week.undisturbed()
        ruined = given.steps * 2 // 3
        week.disturb(ruined)
        back = week.ruin()
        week.finish("--resume", back)
        outcome = {
            "steps": given.steps,
            "seed": given.seed,
            "share_of_file_calls_that_fail": given.share,
            "same_figures": figures(week.run) == whole,
            "events": Counter(entry["event"] for entry in week.starts),
            "starts": week.starts,
        }
        given.out.write_text(json.dumps(outcome, indent=1) + "\n")
        assert outcome["same_figures"], "the figures differ from those of the undisturbed run"


if __name__ == "__main__":
    main()
