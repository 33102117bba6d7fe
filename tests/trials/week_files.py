"""The files of a bad week: what it trains, and how far it has come."""

from __future__ import annotations

import re
from pathlib import Path

from tests.integration.program import recipe, write_corpus, write_recipe
from train.config.run_folder import METRICS

EVERY = 10  # steps between checkpoints


def recipe_path(folder: Path) -> Path:
    """Return where the recipe of a week lies."""
    return folder / "recipe.yaml"


def write_week(folder: Path, steps: int) -> Path:
    """Write corpus and recipe, and return the recipe."""
    values = recipe(write_corpus(folder / "corpus"), folder / "prepared")
    values["run"] |= {"steps": steps, "global_batch": 2, "max_skipped_steps": 3}
    values["eval"] = {"every": steps // 3, "tokens": 512}
    values["optim"] |= {"weight_decay": 0.0}  # an infinite step times a decay is refused
    values["decay"] = {"method": "none"}
    values["checkpoint"] = {"every": EVERY, "keep": 3, "max_failures": 1000}
    return write_recipe(recipe_path(folder), values)


def newest_step(run: Path, began_ns: int) -> int:
    """Return the newest step that a start has written a line of; 0 before its first.

    Args:
        began_ns: when it was started: until its first line there are those of the start before.
    """
    path = run / METRICS
    try:
        if path.stat().st_mtime_ns < began_ns:
            return 0
        steps = re.findall(r'"kind": "train", "step": (\d+)', path.read_text())
    except OSError:
        return 0
    return int(steps[-1]) if steps else 0
