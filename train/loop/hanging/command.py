"""Says of a run that hung which rank the others waited for, and where: `python -m train hang RUN`.

A little before a collective's limit (`deepspeed.timeout_minutes`) each rank that stands still has
written its Python stacks and last collectives to RUN/hang/START/rank-N.json. A rank that wrote
nothing was stopped, or its process or machine is gone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from train.config.run_folder import HANG
from train.errors import UserError, as_command
from train.loop.hanging.verdict import (
    Told,
    Verdict,
    Wait,
    judge,
    main_frames,
    newest_folder,
    place,
    read_told,
)


def explain(run: Path, stacks: bool = False) -> str:
    """Return in words what the ranks of a run wrote when they last stood still.

    Args:
        run: its folder.
        stacks: with every thread's stack.

    Raises:
        UserError: no rank wrote anything.
    """
    folder = newest_folder(run)
    told = read_told(folder) if folder is not None else {}
    if folder is None or not told:
        raise UserError(
            f"{run} has no {HANG}: none of its ranks stood still until the limit of a collective "
            "(deepspeed.timeout_minutes), or none could write; the last lines of each rank's log "
            "tell what ended it"
        )
    lines = [_when(run, told), "", *_missing(judge(told), told), ""]
    lines += [_standing(one) for one in told.values()]
    lines += ["", f"Whole stacks and last collectives: {folder}/rank-*.json"]
    if stacks:
        lines += [line for one in told.values() for line in _stacks(one)]
    return "\n".join(lines)


def _when(run: Path, told: Mapping[int, Told]) -> str:
    one = max(told.values(), key=lambda one: float(one["time"]))
    written = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(float(one["time"])))
    return (
        f"{run}: {len(told)} of {one['world_size']} ranks stood still for "
        f"{one['still_seconds']:.0f} s and said so at {written}; a collective may take "
        f"{one['limit_seconds']:.0f} s."
    )


def _missing(verdict: Verdict, told: Mapping[int, Told]) -> list[str]:
    guilty = (*verdict.silent, *verdict.missing)
    if not guilty:
        return _nobody(verdict)
    lines = []
    for rank in guilty:
        awaited = [_for_what(wait) for wait in verdict.waits if rank in wait.behind]
        said = "; ".join(awaited) or "is not where the others are"
        lines.append(f"Missing: rank {rank} {said}.")
        if rank in told:
            lines.append(f"  It is in {place(main_frames(told[rank]))}, {_who(told[rank])}.")
        else:
            lines.append(
                "  It wrote nothing: its process was stopped or has died, its machine is gone, or "
                "it runs code that lets no other thread run."
            )
    return lines


def _for_what(wait: Wait) -> str:
    return f"did not come to {wait.name}, which {_ranks(wait.arrived)} entered in {wait.place}"


def _nobody(verdict: Verdict) -> list[str]:
    if verdict.waits:
        named = [f"{_ranks(w.arrived)} in {w.name}, {w.place}" for w in verdict.waits]
        return [f"The ranks wait for one another in different collectives: {'; '.join(named)}."]
    return [
        "No rank is missing: all have entered the same collectives. The network or a card did not "
        "carry one of them, or the limit was too short for it."
    ]


def _ranks(ranks: Sequence[int]) -> str:
    named = ", ".join(map(str, ranks[:8])) + " and others" * (len(ranks) > 8)
    return f"rank{'s' * (len(ranks) > 1)} {named}"


def _who(one: Told) -> str:
    return f"process {one['pid']} on {one['host']}"


def _standing(one: Told) -> str:
    part = f", {str(one['part']).replace('_', ' and ')}" if one["part"] else ""
    return f"rank {one['rank']}: step {one['step']}{part}; {place(main_frames(one))}; {_who(one)}"


def _stacks(one: Told) -> list[str]:
    lines = []
    for stack in one["threads"]:
        lines += ["", f"rank {one['rank']}, {stack['name']}, the innermost first:"]
        lines += [f"  {file}:{line} {function}" for file, line, function in stack["frames"]]
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train hang",
        description="Say which rank the others of a run waited for, and in which collective.",
    )
    parser.add_argument("run", type=Path, help="a run's folder, such as runs/quickstart")
    parser.add_argument(
        "--stacks", action="store_true", help="also every thread's Python stack of each rank"
    )
    o = parser.parse_args(argv)
    return as_command(lambda: print(explain(o.run, o.stacks)))
