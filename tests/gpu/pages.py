"""The pages that say what was measured: their marked sections, renewed from the stored results.

A mark is <!-- gpu: NAME --> and <!-- end -->, on lines of their own around a table, or within a
line around some words. NAME is a table's, "sizing" or "headline".
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import alphadecay
from alphadecay.inspect.plan.known_peaks import card_named
from tests.gpu.curves import write_curves
from tests.gpu.newest import newest, release
from tests.gpu.report import is_of_a_gpu, read, stored, table, tables
from tests.gpu.tables import Figures, measured, number
from train.planning import sizing
from train.planning.sizes import Size
from train.system.files import write_atomically
from train.system.provenance import ROOT

CURVES = ROOT / "tests/gpu/results/evidence.png"
PAGES = ("README.md", "docs/sizing.md", "tests/gpu/README.md")
_MARKED = re.compile(r"(<!-- ?gpu: ?([a-z-]+) ?-->(\n?)).*?(<!-- ?end ?-->)", re.DOTALL)


def fill_in(page: str, results: Sequence[Figures]) -> str:
    """Return a page with its marked sections made anew.

    Args:
        results: the newest first; each case is of the newest that have it, of one device and
            release.

    Raises:
        ValueError: nothing is marked, or there are no figures for what is.
    """
    if not _MARKED.search(page):
        raise ValueError("nothing is marked there: <!-- gpu: speed --> and <!-- end -->")
    return _MARKED.sub(lambda mark: f"{mark[1]}{section(mark[2], results)}{mark[3]}{mark[4]}", page)


def section(name: str, results: Sequence[Figures]) -> str:
    """Return what stands in a marked section.

    Raises:
        ValueError: there are no figures for it.
    """
    if name == "sizing":
        return "\n".join(sizing.table(measured=measured_mfu(results)))
    one = newest(results, "speed" if name == "headline" else name)
    text = "" if one is None else headline(one) if name == "headline" else table(one, name)
    if one is None or not text:
        raise ValueError(f"no figures for {name!r}")
    return text if name == "headline" else f"{origin(one)}:\n\n{text}"


def origin(results: Figures) -> str:
    """Return what a table's figures are of."""
    machine = results["machine"]
    commit = f" ({machine['commit']})" if machine["commit"] else ""
    return f"Version {release(machine['version'])}{commit} on one {machine['device']}"


def headline(results: Figures) -> str:
    """Return the MFU of each recipe in a few words; empty where none was measured."""
    shares = [f"{size.upper()} {number(case, 'mfu', '.1%')}" for size, case in _recipes(results)]
    if not shares:
        return ""
    machine = results["machine"]
    version = release(machine["version"])
    device = card_named(machine["device"]) or machine["device"]
    later = "" if version == release(alphadecay.__version__) else "; later ones unmeasured"
    return f"version {version}, one {device}: {', '.join(shares)} MFU{later}"


def measured_mfu(results: Sequence[Figures]) -> Mapping[sizing.Run, float]:
    """Return the MFU of the recipes that were run, on one GPU each; the newest counts."""
    found: dict[sizing.Run, float] = {}
    for one in results:
        card = card_named(one["machine"]["device"])
        if card is None:
            continue
        for model, case in _recipes(one):
            size = Size(f"ds_configs/zero{case['zero_stage']}.json", case["micro_batch"])
            found.setdefault(sizing.Run(model, 1, card, size), case["mfu"])
    return found


def _recipes(results: Figures) -> Iterator[tuple[str, Figures]]:
    """Yield the recipes as shipped, whose method is AlphaDecay, and their figures."""
    for name, case in measured(results["parts"].get("speed", {})).items():
        size, _, method = name.partition(" ")
        if method == "alphadecay" and case.get("mfu") is not None:
            yield size, case


def table_command(arguments: Sequence[str], folder: Path) -> int:
    """Print the tables of a JSON, or renew the marked sections of pages; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.gpu table", description="Print what a JSON says as Markdown."
    )
    parser.add_argument(
        "results", type=Path, nargs="?", help="a JSON, or a folder of version 0.1's; the newest"
    )
    pages = parser.add_mutually_exclusive_group()
    pages.add_argument("--into", type=Path, help="renew the marked sections of this page")
    pages.add_argument("--pages", action="store_true", help=f"renew those of {', '.join(PAGES)}")
    options = parser.parse_args(arguments)
    if options.results is not None and not options.results.exists():
        print(f"error: there are no results at {options.results}; make gpu", file=sys.stderr)
        return 2
    results = stored(folder)
    if options.results is not None:
        results.insert(0, read(options.results))
    if options.pages:
        draw(results)
    paths = [ROOT / page for page in PAGES] if options.pages else [options.into]
    if paths == [None]:
        print("\n\n".join(tables(results[0])))
        return 0
    return renew(paths, results)


def draw(results: Sequence[Figures]) -> None:
    """Draw the curves of the newest results of a GPU that have any."""
    for one in results:
        if is_of_a_gpu(one) and measured(one["parts"].get("evidence", {})):
            write_curves(CURVES, one)
            return


def renew(pages: Sequence[Path], results: Sequence[dict[str, Any]]) -> int:
    """Renew the marked sections of pages, all or none; return the exit code."""
    if not is_of_a_gpu(results[0]):
        print("error: a rehearsal's figures stand on no page", file=sys.stderr)
        return 2
    renewed: dict[Path, str] = {}
    for page in pages:
        try:
            renewed[page] = fill_in(page.read_text(), results)
        except ValueError as error:
            print(f"error: {page}: {error}", file=sys.stderr)
            return 2
    for page, text in renewed.items():
        write_atomically(page, text)
    return 0
