"""Finished runs of a grid as a table: `python -m train tables GRID [--only PATTERN ...] [--
--section.key value ...]`.

Reads what `python -m train sweep GRID` trained and writes to ROOT/<grid>/tables: table.md, for a
person; table.csv, a line a run; cells.csv, a line a cell; table.json, all of it; plot.png; and
lr_sensitivity.png where columns differ in the learning rate alone, three of them or more. Runs that
are not finished, or made with other settings than the grid has, are named and left out. Overrides
that the sweep was given after `--` belong here too.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from train.errors import UserError, as_command
from train.experiments.arguments import add_choice, cut_overrides, overrides_of
from train.experiments.grids.registry import load_grid
from train.experiments.tables.csv_json import as_json, cells_csv, runs_csv
from train.experiments.tables.lr_plot import write_lr_plot
from train.experiments.tables.markdown import markdown
from train.experiments.tables.plot import write_plot
from train.experiments.tables.table import Table, make_table
from train.system.files import write_atomically

TABLE = "table.md"
RUNS = "table.csv"
CELLS = "cells.csv"
JSON = "table.json"
PLOT = "plot.png"
LR_PLOT = "lr_sensitivity.png"
TOLD = 3  # runs whose reason an error tells


def tables(
    name: str,
    root: Path,
    out: Path | None,
    only: Sequence[str],
    seeds: Sequence[int] | None,
    overrides: Mapping[str, str],
) -> str:
    """Write the files, and return the Markdown.

    Args:
        name: of a shipped grid, or the path of one.
        root: the folder of all grids' runs.
        out: folder to write to; None means ROOT/<grid>/tables.
        only: shell patterns of rows, columns and cell keys; empty takes all.
        seeds: instead of the grid's own.
        overrides: that the sweep was given besides the grid's.

    Raises:
        UserError: no such grid, no run that counts, or nowhere to write.
    """
    grid = load_grid(name).narrowed(only, seeds)
    table = make_table(grid, root, overrides)
    if not table.collected.records:
        raise UserError(_nothing(table, root))
    folder = out or root / grid.name / "tables"
    texts = {
        TABLE: markdown(table),
        RUNS: runs_csv(table),
        CELLS: cells_csv(table),
        JSON: as_json(table),
    }
    pictures = _write(folder, texts, table)
    print(f"written to {folder}: {', '.join([*texts, *pictures])}", file=sys.stderr)
    return texts[TABLE]


def _write(folder: Path, texts: Mapping[str, str], table: Table) -> list[str]:
    """Write the files, and return the names of the pictures among them."""
    pictures = [PLOT]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_atomically(folder / name, text)
        write_plot(folder / PLOT, table)
        if table.sensitivities:
            write_lr_plot(folder / LR_PLOT, table.grid.title, table.sensitivities)
            pictures.append(LR_PLOT)
    except OSError as error:
        raise UserError(f"--out: cannot write to {folder}: {error.strerror or error}") from error
    return pictures


def _nothing(table: Table, root: Path) -> str:
    """Tell why a table would be empty, and what to do."""
    absent = table.collected.absent
    counts = Counter(run.why for run in absent)
    reasons = ", ".join(f"{count} {why}" for why, count in counts.items())
    told = [f"{run.run.folder}: {run.detail}" for run in absent if run.why != "missing"][:TOLD]
    if table.strangers:
        seeds = ", ".join(map(str, table.strangers))
        told.append(f"seeds {seeds} have folders: ask for them with --seeds")
    if "other settings" in counts:
        told.append("overrides that the sweep was given belong here too, after --")
    if counts.keys() == {"missing"} and not table.strangers:
        told.append(f"is --root right? python -m train sweep {table.grid.name} trains them")
    return (
        f"no run of {table.grid.name} under {root} is finished and made as the grid says "
        f"({reasons}); {'; '.join(told)}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; a user's mistake is one message, not a
    traceback.
    """
    options, words = cut_overrides(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="python -m train tables", description="Collate finished runs of a grid into tables."
    )
    parser.usage = "%(prog)s GRID [options] [-- --section.key value ...]"
    parser.epilog = (
        "after --: the overrides that the sweep was given, if any; runs made with other settings "
        "are left out"
    )
    parser.add_argument(
        "grid", metavar="GRID", help="a shipped grid's name, or FILE.yaml of your own"
    )
    add_choice(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where to write; default ROOT/<grid>/tables"
    )
    o = parser.parse_args(options)

    def work() -> None:
        page = tables(o.grid, o.root, o.out, o.only, o.seeds, overrides_of(words))
        print(page, end="")

    return as_command(work)
