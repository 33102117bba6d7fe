"""Says in a sentence where the wall time of a run went."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alphadecay.inspect.run.words import clock

_NAMES = {
    "start": "start",
    "compile": "compiling",
    "data_wait": "waiting for data",
    "refresh": "refreshes",
    "evaluation": "validation",
    "save_stall": "saves",
    "lost": "steps lost to a restart",
    "other": "other",
}
SHOWN = 0.001  # share from which a part is named


def headline(goodput: Mapping[str, Any]) -> str:
    """Return training's share of the wall time, and of how much in how many attempts."""
    attempts = goodput["attempts"]
    spread = "" if attempts == 1 else f" in {attempts} attempts"
    return f"{goodput['share']:.1%} of {clock(goodput['wall_seconds'])}{spread}"


def rest(goodput: Mapping[str, Any]) -> str:
    """Return what the rest of the wall time was, the largest first; empty where there is none."""
    wall = goodput["wall_seconds"]
    seconds = goodput["seconds"]
    shares = {name: seconds[name] / wall for name in _NAMES if wall > 0}
    named = sorted((item for item in shares.items() if item[1] >= SHOWN), key=lambda item: -item[1])
    return ", ".join(f"{_NAMES[name]} {share:.1%}" for name, share in named)


def remarks(goodput: Mapping[str, Any]) -> str:
    """Return what is told besides: steps done twice, time between attempts, what is not known."""
    words = []
    if steps := goodput["lost_steps"]:
        words.append(f"{steps:,} step{'s' * (steps != 1)} had to be done again")
    if goodput["attempts"] > 1:
        words.append(
            f"{clock(goodput['between_seconds'])} between attempts, in a queue or in starts that "
            "took no step, are not counted"
        )
    if goodput["first_step"]:
        words.append(f"of the first {goodput['first_step']:,} steps nothing is known here")
    return "; ".join(words)
