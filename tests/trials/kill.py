"""Kills two real ranks of the program, again and again in one output folder.

python -m tests.trials.kill --trials 120 --out tests/trials/results/kill.json

Every trial goes on from what the one before left, trains and saves every step, and is killed. The
next one's resume is the check: it must load, and at no earlier step than the last that was reported
as saved. Kills are drawn from a seed: mostly inside a save, else anywhere, start-up and loading
included; with --async also while the process beside a rank writes and while rank 0 commits. In
some trials a second job starts in the same folder, together with the first or while it works: one
has the folder, the other is refused, and the one that has it is killed all the same. A naive writer
goes through the same, without a second job: in the final place, and with --async from a thread
that reads the tensors as they change. A process is killed, not the machine: what fsync is for is
not tested here.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.integration.program import recipe, write_corpus, write_recipe
from tests.trials.arm import ENGINES, Arm
from tests.trials.pair import RANKS, Pair

STEPS = 100_000
# What the ranks say, and the word that ends it: a file is being written, a checkpoint saved, a step
# taken.
ENDS = {"writing": "wrote", "saving": "saved", "saved": "saving"}


@dataclass
class Tally:
    """The outcome of the trials of one writer.

    Args:
        moments: kills by the last word heard; "start" is before the checkpoint was loaded.
        second_jobs: what became of the second job of a trial: refused, took over, or killed before
            it was either.
        failures: trials whose start could not go on from what was left, and how.
        steps: optimizer steps taken over all trials.
    """

    writer: str
    trials: int = 0
    moments: dict[str, int] = field(default_factory=dict)
    second_jobs: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0


@dataclass
class Trial:
    """One start in a folder, its check, maybe a second job beside, and the kill.

    Args:
        saved: the last step reported as saved; -1 after a start that could not go on.
    """

    tally: Tally
    folder: Path
    arguments: Sequence[str]
    naive: bool
    chance: random.Random
    saved: int

    def run(self) -> int:
        """Return the last step reported as saved."""
        pair = self._start()
        second = self._start() if self._with_second(0.15) else None
        early = self.chance.random() < 0.1
        limit = time.monotonic() + self.chance.uniform(0.0, 3.0) if early else None
        words = pair.hear(limit)
        if second is not None and words is not None and _is_refused(words):
            self._kill(pair)
            _count(self.tally.second_jobs, "refused")
            pair = second
            second = None
            words = pair.hear(limit)
        moment = "start"
        if words is not None and self._check(words):
            if second is None and self._with_second(0.3):
                second = self._start()
            first = self.saved
            moment, self.saved = _run_on(pair, self.chance, self.saved)
            self.tally.steps += max(0, self.saved - first)
        self._end(pair, second)
        _count(self.tally.moments, moment)
        return self.saved

    def _start(self) -> Pair:
        return Pair(self.folder, self.arguments, self.naive)

    def _with_second(self, share: float) -> bool:
        return not self.naive and self.chance.random() < share

    def _check(self, words: Sequence[str], who: str = "") -> bool:
        """Return whether a start goes on, from no earlier than what was reported as saved."""
        if words[:1] != ["loaded"]:
            self._fail(who + (" ".join(words) or "the ranks ended"))
            self.saved = -1
            return False
        if int(words[1]) < self.saved:
            self._fail(f"{who}step {self.saved} had been saved, went on from {words[1]}")
        self.saved = int(words[1])
        return True

    def _end(self, pair: Pair, second: Pair | None) -> None:
        """Kill the pair that has the folder, and see what becomes of the second one."""
        words = second.hear(time.monotonic()) if second is not None else None
        if words is not None and not _is_refused(words):
            self._fail(f"two jobs had the folder: {' '.join(words)}")
        self._kill(pair)
        if second is None:
            return
        if words is None and self.chance.random() < 0.5:  # else it is killed at whatever it does
            words = second.hear()
        became = "killed"
        if words is not None:
            became = "refused" if _is_refused(words) else "took over"
        if became == "took over" and words is not None:
            self._check(words, "the second job: ")
        self._kill(second)
        _count(self.tally.second_jobs, became)

    def _kill(self, pair: Pair) -> None:
        pair.kill(self.chance)
        for words in pair.rest():
            if words[0] == "saved" and self.saved >= 0:
                self.saved = int(words[1])

    def _fail(self, what: str) -> None:
        self.tally.failures.append(f"trial {self.tally.trials}: {what}")


def _is_refused(words: Sequence[str]) -> bool:
    return words[:1] == ["failed"] and "is held by" in " ".join(words)


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


def _run_on(pair: Pair, chance: random.Random, saved: int) -> tuple[str, int]:
    """Let the ranks work until the moment drawn has come.

    Returns what was going on, and the last step reported as saved.
    """
    aim = chance.choices(list(ENDS), weights=[6, 2, 2])[0]
    turns = chance.randint(2, 4)  # from the second on it is known how long such a thing takes
    began = 0.0
    lasts = 0.1
    moment = "saved"
    limit = None
    while (words := pair.hear(limit)) is not None:
        if not words or words[0] not in (*ENDS, "wrote"):
            raise AssertionError(f"the ranks ended by themselves: {words}")
        moment = words[0]
        now = time.monotonic()
        saved = int(words[1]) if moment == "saved" else saved
        if moment == ENDS[aim] and began:
            lasts = now - began
        if moment == aim:
            began = now
            turns = turns - 1
        if turns == 0 and limit is None:
            limit = now + chance.uniform(0.0, 1.1 * lasts)
    return moment, saved


def run_trials(folder: Path, trials: int, naive: bool, arm: Arm, seed: int) -> Tally:
    """Kill `trials` times in one output folder, and start once more after the last."""
    tally = Tally("naive" if naive else "commit by rename")
    chance = random.Random(seed)
    values = recipe(write_corpus(folder / "corpus"), folder / "prepared")
    # 15 MB a checkpoint: writing takes a while
    values["model"] |= {"hidden_size": 192, "intermediate_size": 512}
    values["run"] |= {"steps": STEPS, "global_batch": 2}
    values["eval"] |= {"every": STEPS}
    values["checkpoint"] = {"every": 1, "keep": 2}
    values["log"] = {"every": 1000, "progress": "off"}
    path = write_recipe(folder / "recipe.yaml", values)
    arguments = [
        "--config",
        str(path),
        "--output_dir",
        str(folder / "out"),
        *arm.arguments(),
    ]
    if naive:
        arguments += ["--resume", "never"]
    _import_all(arguments)
    saved = -1
    started = time.monotonic()
    for tally.trials in range(1, trials + 1):
        saved = Trial(tally, folder, arguments, naive, chance, saved).run()
        if saved < 0:
            # a run that cannot start would never start again
            shutil.rmtree(folder / "out", ignore_errors=True)
    tally.seconds = round(time.monotonic() - started, 1)
    return tally


def _import_all(arguments: Sequence[str]) -> None:
    """Import, before the forks, what a rank would import at its start.

    None of it may start a thread.
    """
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # more would start workers at import

    # Ten seconds: it asks torch for a compiler.
    import deepspeed.runtime.zero.muon.muon_optimizer  # noqa: F401

    import tests.integration.ranks  # noqa: F401
    from train.config.command_line import load_config
    from train.models.build import build_model

    config = load_config(list(arguments))
    build_model(config.model, config.data.sequence_length, seed=0)
    assert threading.active_count() == 1, threading.enumerate()


def versions() -> dict[str, str]:
    """Return the versions of what was tried."""
    import deepspeed
    import torch

    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=Path(__file__).parent,
        text=True,
        capture_output=True,
        timeout=120,
    ).stdout.strip()
    return {
        "commit": commit,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "deepspeed": deepspeed.__version__,
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=200, help="over all engines and stages")
    parser.add_argument("--naive", type=int, default=30, help="the same, of the naive writer")
    parser.add_argument("--engine", nargs="+", choices=ENGINES, default=["deepspeed"])
    parser.add_argument("--stages", type=int, nargs="+", default=[2, 3], help="of DeepSpeed's ZeRO")
    parser.add_argument("--async", action="store_true", dest="asynchronous")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    tallies = []
    arms = [
        Arm(engine, stage, given.asynchronous)
        for engine in given.engine
        for stage in (given.stages if engine == "deepspeed" else [None])
    ]
    each = len(arms)
    for number, arm in enumerate(arms):
        for naive, trials in ((False, given.trials // each), (True, given.naive // each)):
            if not trials:
                continue
            with tempfile.TemporaryDirectory() as folder:
                tally = run_trials(Path(folder), trials, naive, arm, given.seed + number)
            tallies.append({**asdict(arm), **asdict(tally)})
            print(json.dumps({**tallies[-1], "failures": len(tally.failures)}), flush=True)
            given.out.write_text(
                json.dumps(
                    {"ranks": RANKS, "seed": given.seed, **versions(), "trials": tallies}, indent=1
                )
                + "\n"
            )


if __name__ == "__main__":
    main()
