"""The JSON of a measurement, and its tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alphadecay.inspect.plan.known_peaks import ASSUMED_MFU
from tests.gpu.tables import TABLES, Figures, ablations, engines, measured
from tests.gpu.version_0_1 import read_version_0_1
from train.system.files import write_atomically

# Tables that compare with the recipes as shipped.
BESIDE_SPEED = {"engines": engines, "ablations": ablations}
VERSION_0_1 = Path(__file__).parents[1] / "bench" / "results" / "h200-0.1"


def write(out: Path, results: Figures) -> None:
    """Write the JSON in one move."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, json.dumps(results, indent=1) + "\n")


def out_file(folder: Path, machine: Figures, toy: bool) -> Path:
    """Return the file for what a machine measured at a commit."""
    words = re.sub(r"[^a-z0-9]+", "-", machine["device"].lower()).strip("-")
    return (
        folder / f"{'toy-' if toy else ''}{words}-{machine['commit'].rstrip('+') or 'unknown'}.json"
    )


def read(place: Path) -> dict[str, Any]:
    """Return the results of a JSON, or of a folder of version 0.1's."""
    if place.is_dir():
        return read_version_0_1(place)
    results: dict[str, Any] = json.loads(place.read_text())
    return results


def is_of_a_gpu(results: Figures) -> bool:
    """Return whether a GPU was measured: neither small models nor a CPU."""
    return not results.get("toy", False) and results["machine"]["device"] != "CPU"


def stored(folder: Path) -> list[dict[str, Any]]:
    """Return the results in a folder that are of a GPU, and version 0.1's, the newest first."""
    found = [read(path) for path in folder.glob("*.json")]
    found = [results for results in found if is_of_a_gpu(results)]
    found.append(read_version_0_1(VERSION_0_1))
    return sorted(found, key=lambda results: str(results["machine"]["date"]), reverse=True)


def table(results: Figures, name: str) -> str:
    """Return one table by the name of its part; empty where there are no figures for it."""
    parts = results["parts"]
    if name in BESIDE_SPEED:
        return BESIDE_SPEED[name](parts.get(name, {}), measured(parts.get("speed", {})))
    return TABLES[name](parts.get(name, {})) if name in TABLES else ""


def tables(results: Figures) -> Iterator[str]:
    """Yield every table that has a row, and what was not measured."""
    for name in (*TABLES, *BESIDE_SPEED):
        if text := table(results, name):
            yield text
    missing = [
        f"- {part} {name}: {next(str(case[key]) for key in case if key != 'seconds')}"
        for part, cases in results["parts"].items()
        for name, case in cases.items()
        if name not in measured(cases)
    ]
    if missing:
        yield "\n".join(["Not measured:", *missing])
    mfu = [
        case["mfu"]
        for case in measured(results["parts"].get("speed", {})).values()
        if "mfu" in case
    ]
    if mfu:
        found = f"{min(mfu):.0%} to {max(mfu):.0%}"
        yield f"`python -m train sizing` assumes {ASSUMED_MFU:.0%} MFU; {found} was measured here."
