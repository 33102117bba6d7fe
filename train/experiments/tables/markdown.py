"""A table as Markdown: methods by columns, then every figure of every cell, then what must be said
of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from train.experiments.tables.aggregate import Entry
from train.experiments.tables.collect import Why
from train.experiments.tables.statistics import CONFIDENCE, Difference, Spread
from train.experiments.tables.table import Table

NONE = "–"
MINUS = "−"
MARKS = {-1: " ↓", 0: "", 1: " ↑"}
REASONS: dict[Why, str] = {
    "missing": "never started",
    "unfinished": "not finished",
    "failed": "failed",
    "diverged": "diverged",
    "other settings": "made with other settings than the grid has now",
    "unreadable": "unreadable",
}
LONGEST = 300  # characters told of one run


def markdown(table: Table) -> str:
    """The whole page of a table that has runs, ending in a line feed."""
    blocks = [
        f"# {table.grid.title}",
        "\n".join(_overview(table)),
        _legend(table),
        "## Every cell",
        "\n".join(_cells(table)),
    ]
    blocks += [_cells_legend(table), *_caption(table), *_absent(table)]
    return "\n\n".join(blocks) + "\n"


def _overview(table: Table) -> Iterator[str]:
    """Rows by columns, the unbiased perplexity."""
    yield _row(["", *table.grid.columns])
    yield _row(["---", *["---:"] * len(table.grid.columns)])
    for row in table.grid.rows:
        entries = [table.entry(row, column) for column in table.grid.columns]
        yield _row([row, *(_short(entry) for entry in entries)])


def _short(entry: Entry | None) -> str:
    if entry is None:
        return ""
    found = entry.unbiased
    text = f"**{_spread(found.spread)}**" if entry.best else _spread(found.spread)
    some = f" ({len(entry.seeds)} of {entry.planned})" if len(entry.seeds) < entry.planned else ""
    return text + (MARKS[found.difference.side] if found.difference else "") + some


def _legend(table: Table) -> str:
    told = f"Validation perplexity, the mean over tokens: {_over(table)}. Bold: lowest mean of its column."
    if any(entry.unbiased.difference for entry in table.entries):
        told += (
            f" ↓ and ↑: the {CONFIDENCE:.0%} interval of the paired difference to "
            f"{table.grid.baseline} lies wholly below or above 0; "
            "with many cells some do by chance, and nothing here corrects for that."
        )
    if any(len(entry.seeds) < entry.planned for entry in table.entries):
        told += f" In brackets: seeds that count of {len(table.grid.seeds)}, where not all do."
    return told


def _over(table: Table) -> str:
    seeds = table.grid.seeds
    return (
        f"mean ± standard deviation (n {MINUS} 1) over {len(seeds)} seeds"
        if len(seeds) > 1
        else f"one seed, {seeds[0]}"
    )


def _cells(table: Table) -> Iterator[str]:
    """A line a cell, column by column."""
    versus = f"{MINUS} {table.grid.baseline}"
    heads = ["column", "method", "n", "perplexity", versus, "as published", versus]
    heads += ["paper", f"as published {MINUS} paper"] if table.grid.source else []
    yield _row(heads)
    yield _row(["---", "---", *["---:"] * (len(heads) - 2)])
    for column in table.grid.columns:
        for row in table.grid.rows:
            if (entry := table.entry(row, column)) is not None:
                yield _row(_cell(entry, bool(table.grid.source)))


def _cell(entry: Entry, of_paper: bool) -> list[str]:
    figures = [entry.unbiased, entry.published]
    texts = [entry.cell.column, entry.cell.row, f"{len(entry.seeds)} of {entry.planned}"]
    for found in figures:
        texts += [_spread(found.spread), _difference(found.difference)]
    if of_paper:
        texts.append(NONE if entry.cell.paper is None else f"{entry.cell.paper:,.2f}")
        texts.append(NONE if entry.over_paper is None else _signed(entry.over_paper, 2))
    return texts


def _cells_legend(table: Table) -> str:
    baseline = table.grid.baseline
    told = (
        f"{MINUS} {baseline}: mean difference to {baseline} of the same column over the seeds that "
        "both have, with Student's two-sided "
        f"{CONFIDENCE:.0%} interval; one seed has no interval. As published: counted as the "
        "published code does, which takes the mean over "
        "batches and divides by one batch too many, so that it is too low."
    )
    if table.caption.departures is not None:
        told += " The paper's figures are counted so."
    bare = [
        column
        for column in table.grid.columns
        if (entry := table.entry(baseline, column)) is None or entry.unbiased.spread is None
    ]
    if bare:
        told += f" No difference where {baseline} has no run that counts: {'; '.join(bare)}."
    return told


def _caption(table: Table) -> Iterator[str]:
    grid = table.grid
    said = table.caption
    if said.departures is not None:
        yield "## What differs from the paper's set-up"
        yield f"Paper: {grid.source}." + (f" Its set-up: {grid.setup}." if grid.setup else "")
        yield _list(f"{d.what}: {d.here} (paper: {d.paper})" for d in said.departures)
    elif grid.source:
        yield "## The source's set-up"
        yield f"Source: {grid.source}. " + (
            f"Its set-up: {grid.setup}." if grid.setup else "What it was is not stated."
        )
    yield "## How the runs were made"
    overrides = [
        "overrides besides the grid's: "
        f"{', '.join(f'{key}={text!r}' for key, text in table.overrides.items())}"
    ]
    yield _list(
        [
            *(f"{name}: {words}" for name, words in said.made),
            *(overrides if table.overrides else []),
        ]
    )
    yield "## What runs of one column do not have in common"
    yield _list(said.disagreements)


def _absent(table: Table) -> Iterator[str]:
    absent = table.collected.absent
    planned = len(table.collected.absent) + len(table.collected.records)
    yield f"## Runs that are not counted: {len(absent)} of {planned}"
    lines = []
    for why, words in REASONS.items():
        runs = [found for found in absent if found.why == why]
        if runs and why == "missing":  # nothing to tell of each
            names = ", ".join(found.run.label for found in runs)
            lines.append(f"{words}: {len(runs)}: {names}")
        elif runs:
            lines.append(f"{words}: {len(runs)}")
            lines += [f"  - {found.run.label}: {_one_line(found.detail)}" for found in runs]
    if table.strangers:
        lines.append(
            "seeds with folders of their own that were not asked for (--seeds): "
            f"{', '.join(map(str, table.strangers))}"
        )
    yield _list(lines)


# --- words
# -------------------------------------------------------------------------------------------------


def _spread(found: Spread | None) -> str:
    if found is None:
        return NONE
    if found.sd is None:
        return f"{found.mean:,.2f}"
    return f"{found.mean:,.2f} ± " + (f"{found.sd:,.2f}" if found.sd >= 0.01 else f"{found.sd:.1g}")


def _difference(found: Difference | None) -> str:
    if found is None:
        return NONE
    if found.low is None or found.high is None:
        return f"{_signed(found.mean)} (one seed)"
    return f"{_signed(found.mean)} [{_signed(found.low)}, {_signed(found.high)}]{MARKS[found.side]}"


def _signed(value: float, digits: int = 3) -> str:
    text = f"{abs(value):,.{digits}f}"
    return text if not float(text.replace(",", "")) else (MINUS if value < 0 else "+") + text


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _list(items: Iterable[str]) -> str:
    """A bulleted list; an item that is indented is one level down. `none` where there is nothing."""
    return (
        "\n".join(f"- {item}" if not item.startswith("  - ") else item for item in items)
        or "- none"
    )


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
