"""The JSON of a measurement, and the pages that have tables of it."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from alphadecay.inspect.plan.known_peaks import ASSUMED_MFU
from tests.gpu.tables import TABLES, Figures, ablations, measured
from tests.gpu.version_0_1 import read_version_0_1
from train.system.files import write_atomically


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


def table(results: Figures, name: str) -> str:
    """Return one table by the name of its part; empty where there are no figures for it."""
    parts = results["parts"]
    if name == "ablations":
        return ablations(parts.get(name, {}), measured(parts.get("speed", {})))
    return TABLES[name](parts.get(name, {})) if name in TABLES else ""


def tables(results: Figures) -> Iterator[str]:
    """Yield every table that has a row, and what was not measured."""
    for name in (*TABLES, "ablations"):
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


def fill_in(page: str, results: Figures) -> str:
    """Return a page with its marked tables made anew.

    A mark is <!-- gpu: speed -->, the table, and <!-- end --> on lines of their own.

    Raises:
        ValueError: nothing is marked, or there are no figures for what is.
    """
    pattern = re.compile(r"(<!-- gpu: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
    if not pattern.search(page):
        raise ValueError("nothing is marked there: <!-- gpu: speed --> and <!-- end -->")

    def made(match: re.Match[str]) -> str:
        text = table(results, match[2])
        if not text:
            raise ValueError(f"no figures for the table {match[2]!r}")
        return f"{match[1]}{text}\n{match[3]}"

    return pattern.sub(made, page)


def table_command(arguments: Sequence[str], folder: Path) -> int:
    """Print the tables of a JSON, or renew those of a page; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.gpu table", description="Print what a JSON says as Markdown."
    )
    parser.add_argument(
        "results", type=Path, nargs="?", help="a JSON, or a folder of version 0.1's; the newest"
    )
    parser.add_argument("--into", type=Path, help="renew the marked tables of this page")
    options = parser.parse_args(arguments)
    newest = max(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, default=None)
    place = options.results or newest
    if place is None or not place.exists():
        print(f"error: there are no results at {place or folder}; make gpu", file=sys.stderr)
        return 2
    results = read(place)
    if options.into is None:
        print("\n\n".join(tables(results)))
        return 0
    try:
        write_atomically(options.into, fill_in(options.into.read_text(), results))
    except ValueError as error:
        print(f"error: {options.into}: {error}", file=sys.stderr)
        return 2
    return 0
