"""Reports whether the run in this container is alive, by exit code 0 or 1.

The image's HEALTHCHECK runs it; it judges by what the run last wrote.

HEALTH_MAX_AGE is the number of seconds that a running run may be silent (1800); set it above the
longest evaluation, refresh or checkpoint.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from train.config.run_folder import STATUS  # noqa: E402
from train.loop.run_status import read_state  # noqa: E402


def health(runs: Path, max_age: float, now: float, born: float) -> tuple[bool, str]:
    """Return whether the run that was written to last is healthy, and why.

    Args:
        runs: folder of the runs' folders.
        max_age: seconds a running run may be silent.
        now: seconds as of time.time().
        born: when the container started; silence before that was another container's.
    """
    # The runs of a sweep lie in GRID/CELL/seed-N.
    states = [*runs.glob(f"*/{STATUS}"), *runs.glob(f"*/*/*/{STATUS}")]
    states.sort(key=lambda path: path.stat().st_mtime)
    if not states:
        return True, "no run yet"
    folder = states[-1].parent
    state = read_state(folder).get("state")
    if state != "running":
        return state in ("finished", "stopped"), f"{folder.name}: {state}"
    written = max(
        path.stat().st_mtime
        for path in (folder / STATUS, folder / "metrics.jsonl")
        if path.exists()
    )
    silent = now - max(written, born)
    return silent <= max_age, f"{folder.name}: silent for {silent:.0f} s"


if __name__ == "__main__":
    limit = float(os.environ.get("HEALTH_MAX_AGE", "1800"))
    healthy, why = health(
        Path(os.environ.get("RUNS", "runs")), limit, time.time(), psutil.Process(1).create_time()
    )
    print(why)
    sys.exit(not healthy)
