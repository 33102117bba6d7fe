"""Tells what share of a run's wall time was training, over all its attempts, from attempts.jsonl.

An attempt is one start of the program that has taken its first step. Its first line says when the
job began, when the loop did, and the step it goes on from; each later line is a sign of life, with
the step reached and the seconds spent in the loop so far, by part. A kill leaves the last of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

# Parts of the wall time, and the parts of a step that they are made of. Work on a step is lost
# where the step is done again; what an attempt compiles and saves is its cost either way.
WORK = {
    "training": ("forward_backward", "step"),
    "data_wait": ("data",),
    "refresh": ("refresh",),
    "evaluation": ("evaluation",),
}
COSTS = {"compile": ("compiling",), "save_stall": ("checkpoint",)}


@dataclass(frozen=True)
class Sign:
    """A sign of life of an attempt.

    Args:
        time: seconds of time.time().
        step: steps done then, of the run.
        seconds: spent in the loop by this attempt so far, by part of a step.
    """

    time: float
    step: int
    seconds: Mapping[str, float]


@dataclass
class Attempt:
    """One start of a run.

    Args:
        began: when its job began, seconds of time.time().
        loop: when its loop did.
        first_step: the step it goes on from; 0 where it starts afresh.
        signs: of life, in their order; the last is the end, as far as it is known.
    """

    began: float
    loop: float
    first_step: int
    signs: list[Sign] = field(default_factory=list)

    @property
    def last(self) -> Sign:
        """The last sign of life; the begin of the loop where there is none."""
        return self.signs[-1] if self.signs else Sign(self.loop, self.first_step, {})


def read_attempts(path: Path) -> list[Attempt]:
    """Read the attempts of a run, none where there is no such file.

    A line that a kill has cut is left out.
    """
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    attempts: dict[int, Attempt] = {}
    for line in lines:
        try:
            _take_in(json.loads(line), attempts)
        except (ValueError, KeyError, TypeError):
            continue
    return [attempts[number] for number in sorted(attempts)]


def _take_in(line: Mapping[str, Any], attempts: dict[int, Attempt]) -> None:
    number = int(line["attempt"])
    if "began" in line:
        attempts[number] = Attempt(
            float(line["began"]), float(line["loop"]), int(line["first_step"])
        )
        return
    seconds = {str(part): float(value) for part, value in line["seconds"].items()}
    attempts[number].signs.append(Sign(float(line["time"]), int(line["step"]), seconds))


def goodput(attempts: list[Attempt]) -> dict[str, Any] | None:
    """Return where the wall time of all attempts went; None where there are none.

    Returns:
        share: training's part of the wall time. wall_seconds: the attempts' lengths together, each
        from the begin of its job to its last sign of life. between_seconds: the time between
        attempts, in a queue or in starts that took no step; it is no part of the wall time.
        attempts, lost_steps: their numbers. first_step: the step that the first attempt known went
        on from. seconds: the wall time by part; the parts add up to it.
    """
    if not attempts:
        return None
    wall = math.fsum(attempt.last.time - attempt.began for attempt in attempts)
    seconds = {"start": math.fsum(attempt.loop - attempt.began for attempt in attempts)}
    lost = 0.0
    lost_steps = 0
    for place, attempt in enumerate(attempts):
        kept_step = _kept(attempt, attempts[place + 1 :])
        kept = _at(attempt, kept_step)
        for name, parts in WORK.items():
            counted = _of(kept, parts)
            seconds[name] = seconds.get(name, 0.0) + counted
            lost += _of(attempt.last, parts) - counted
        for name, parts in COSTS.items():
            seconds[name] = seconds.get(name, 0.0) + _of(attempt.last, parts)
        lost_steps += attempt.last.step - kept_step
    seconds["lost"] = lost
    seconds["other"] = wall - math.fsum(seconds.values())
    return {
        "share": seconds["training"] / wall if wall > 0 else 0.0,
        "wall_seconds": wall,
        "between_seconds": _between(attempts),
        "attempts": len(attempts),
        "lost_steps": lost_steps,
        "first_step": attempts[0].first_step,
        "seconds": seconds,
    }


def _kept(attempt: Attempt, later: list[Attempt]) -> int:
    """Return the last step of an attempt that no later attempt did again."""
    again = min((one.first_step for one in later), default=attempt.last.step)
    return max(attempt.first_step, min(again, attempt.last.step))


def _at(attempt: Attempt, step: int) -> Sign:
    """Return what an attempt had spent after a step: a checkpoint of it left such a sign."""
    known = [sign for sign in attempt.signs if sign.step <= step]
    if known and step > attempt.first_step:
        return known[-1]
    return Sign(attempt.loop, attempt.first_step, {}) if step < attempt.last.step else attempt.last


def _of(sign: Sign, parts: tuple[str, ...]) -> float:
    return math.fsum(sign.seconds.get(part, 0.0) for part in parts)


def _between(attempts: list[Attempt]) -> float:
    pairs = pairwise(attempts)
    return math.fsum(max(0.0, after.began - before.last.time) for before, after in pairs)
