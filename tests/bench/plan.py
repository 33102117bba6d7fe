"""Times the plan of owners, which every rank makes for itself, once.

Target: 36 000 experts on 1024 ranks in less than half a second.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from alphadecay.owners import plan_owners
from tests.bench.common import finish, machine, new_parser, spread

SIZES = ((168, 8), (36_000, 1024))  # modules and ranks: a dense 1B on a host, experts at scale
TARGET_SECONDS = 0.5
KINDS = (("gate", (768, 2048)), ("up", (768, 2048)), ("down", (2048, 768)), ("q", (4096, 2048)))


def shapes(modules: int) -> dict[str, tuple[int, int]]:
    """Return names as long as those of a model, of three shapes."""
    names = {}
    for index in range(modules):
        kind, shape = KINDS[index % 4]
        names[f"model.layers.{index // 768}.mlp.experts.{kind}_proj[{index}]"] = shape
    return names


def bench(modules: int, ranks: int, repeats: int) -> dict[str, Any]:
    """Time one plan, in seconds."""
    given = shapes(modules)
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        plan = plan_owners(given, ranks)
        seconds.append(time.perf_counter() - started)
    return {
        "modules": modules,
        "ranks": ranks,
        "rounds": len(plan.rounds),
        "seconds": spread(seconds),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Time each size, and return the exit status."""
    options = new_parser(__doc__, repeats=7).parse_args(arguments)
    rows = [bench(modules, ranks, options.repeats) for modules, ranks in SIZES]
    for row in rows:
        print(
            f"{row['modules']} modules on {row['ranks']} ranks: "
            f"{row['seconds']['median'] * 1e3:.1f} ms, {row['rounds']} rounds"
        )
    met = [row["seconds"]["median"] < TARGET_SECONDS for row in rows]
    results = {"machine": machine(), "repeats": options.repeats, "plans": rows}
    return finish(options, results, met)


if __name__ == "__main__":
    sys.exit(main())
