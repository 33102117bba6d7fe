"""Writes a table as Markdown: methods by columns, then every figure of every cell, then the notes
on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from train.experiments.tables.aggregate import Entry
from train.experiments.tables.collect import Why
from train.experiments.tables.lr_sensitivity import Sensitivity
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
    "not reached": "never got there",
    "other settings": "made with other settings than the grid has now",
    "unreadable": "unreadable",
}
LONGEST = 300  # characters told of one run


def markdown(table: Table) -> str:
    """Write the whole page of a table that has runs, ending in a line feed."""
    blocks = [
        f"# {table.grid.title}",
        "\n".join(_overview(table)),
        _legend(table),
        "## Every cell",
        "\n".join(_cells(table)),
    ]
    blocks += [_cells_legend(table), *_sensitivities(table), *_caption(table), *_absent(table)]
    return "\n\n".join(blocks) + "\n"


def _overview(table: Table) -> Iterator[str]:
    """Write the figure of merit, rows by columns."""
    yield _row(["", *table.grid.columns])
    yield _row(["---", *["---:"] * len(table.grid.columns)])
    for row in table.grid.rows:
        entries = [table.entry(row, column) for column in table.grid.columns]
        yield _row([row, *(_short(entry) for entry in entries)])


def _short(entry: Entry | None) -> str:
    if entry is None:
        return ""
    text = _spread(entry.unbiased.spread)
    if entry.best:
        text = f"**{text}**"
    if entry.unbiased.difference:
        text += MARKS[entry.unbiased.difference.side]
    if len(entry.seeds) < entry.planned:
        text += f" ({len(entry.seeds)} of {entry.planned})"
    return text


def _legend(table: Table) -> str:
    mean = ", the mean over tokens" if table.of_text else ""
    better = " ".join({entry.figure.better for entry in table.entries})
    best = {"lower": "lowest", "higher": "highest"}.get(better, "best")
    told = f"Validation {table.label}{mean}: {_over(table)}. Bold: {best} mean of its column."
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
    if len(seeds) == 1:
        return f"one seed, {seeds[0]}"
    return f"mean ± standard deviation (n {MINUS} 1) over {len(seeds)} seeds"


def _cells(table: Table) -> Iterator[str]:
    """Write a line a cell, column by column."""
    versus = f"{MINUS} {table.grid.baseline}"
    heads = ["column", "method", "n", table.label, versus]
    heads += ["as published", versus] if table.of_text else []
    ours = "as published" if table.of_text else "ours"
    heads += ["paper", f"{ours} {MINUS} paper"] if table.grid.source else []
    yield _row(heads)
    yield _row(["---", "---", *["---:"] * (len(heads) - 2)])
    for column in table.grid.columns:
        for row in table.grid.rows:
            if (entry := table.entry(row, column)) is not None:
                yield _row(_cell(entry, table.of_text, bool(table.grid.source)))


def _cell(entry: Entry, of_text: bool, of_paper: bool) -> list[str]:
    texts = [entry.cell.column, entry.cell.row, f"{len(entry.seeds)} of {entry.planned}"]
    for figures in (entry.unbiased, entry.published) if of_text else (entry.unbiased,):
        texts += [_spread(figures.spread), _difference(figures.difference)]
    if of_paper:
        texts.append(NONE if entry.cell.paper is None else f"{entry.cell.paper:,.2f}")
        texts.append(NONE if entry.over_paper is None else _signed(entry.over_paper, 2))
    return texts


def _cells_legend(table: Table) -> str:
    baseline = table.grid.baseline
    told = (
        f"{MINUS} {baseline}: mean difference to {baseline} of the same column over the seeds that "
        "both have, with Student's two-sided "
        f"{CONFIDENCE:.0%} interval; one seed has no interval."
    )
    if table.of_text:
        told += (
            " As published: counted as the published code does, which takes the mean over batches "
            "and divides by one batch too many, so that it is too low."
        )
        if table.caption.departures is not None:
            told += " The paper's figures are counted so."
    baselines = {column: table.entry(baseline, column) for column in table.grid.columns}
    bare = [
        column
        for column, entry in baselines.items()
        if entry is None or entry.unbiased.spread is None
    ]
    if bare:
        told += f" No difference where {baseline} has no run that counts: {'; '.join(bare)}."
    return told


def _caption(table: Table) -> Iterator[str]:
    grid = table.grid
    caption = table.caption
    setup = f" Its set-up: {grid.setup}." if grid.setup else ""
    if caption.departures is not None:
        yield "## What differs from the paper's set-up"
        yield f"Paper: {grid.source}.{setup}"
        yield _list(f"{d.what}: {d.here} (paper: {d.paper})" for d in caption.departures)
    elif grid.source:
        yield "## The source's set-up"
        yield f"Source: {grid.source}.{setup or ' What it was is not stated.'}"
    yield "## How the runs were made"
    made = [f"{name}: {words}" for name, words in caption.made]
    if table.overrides:
        overrides = [f"{key}={text!r}" for key, text in table.overrides.items()]
        made.append(f"overrides besides the grid's: {', '.join(overrides)}")
    yield _list(made)
    yield "## What runs of one column do not have in common"
    yield _list(caption.disagreements)


def _sensitivities(table: Table) -> Iterator[str]:
    """Write LR sensitivities, rows by groups of columns; nothing where a grid has none."""
    found = {(each.row, each.group): each for each in table.sensitivities}
    if not found:
        return
    groups = list(dict.fromkeys(group for _, group in found))
    yield "## LR sensitivity"
    lines = [_row(["", *(group or "all columns" for group in groups)])]
    lines.append(_row(["---", *["---:"] * len(groups)]))
    for row in dict.fromkeys(row for row, _ in found):
        of_groups = [found.get((row, group)) for group in groups]
        lines.append(
            _row([row, *(_sensitivity(each, len(table.grid.seeds)) for each in of_groups)])
        )
    yield "\n".join(lines)
    yield (
        "Mean over the learning rates of min(ℓ, ℓ₀) − ℓ*, nats: ℓ the final validation loss, ℓ* "
        "the least, ℓ₀ that before the first step, also of a run that diverged (arXiv 2309.14322); "
        "over seeds that have every learning rate. Lower is less sensitive, whatever the loss "
        "itself."
    )


def _sensitivity(found: Sensitivity | None, planned: int) -> str:
    if found is None:
        return ""
    spread = found.spread
    if spread is None:
        return f"{NONE} (0 of {planned})"
    text = f"{spread.mean:.3f}" + (f" ± {spread.sd:.3f}" if spread.sd is not None else "")
    return text if spread.n == planned else f"{text} ({spread.n} of {planned})"


def _absent(table: Table) -> Iterator[str]:
    absent = table.collected.absent
    planned = len(table.collected.absent) + len(table.collected.records)
    yield f"## Runs that are not counted: {len(absent)} of {planned}"
    lines = []
    for why, words in REASONS.items():
        outcomes = [outcome for outcome in absent if outcome.why == why]
        if outcomes and why == "missing":  # nothing to tell of each
            names = ", ".join(outcome.run.label for outcome in outcomes)
            lines.append(f"{words}: {len(outcomes)}: {names}")
        elif outcomes:
            lines.append(f"{words}: {len(outcomes)}")
            lines += [f"  - {o.run.label}: {_one_line(o.detail)}" for o in outcomes]
    if table.strangers:
        lines.append(
            "seeds with folders of their own that were not asked for (--seeds): "
            f"{', '.join(map(str, table.strangers))}"
        )
    yield _list(lines)


def _spread(spread: Spread | None) -> str:
    if spread is None:
        return NONE
    mean = f"{spread.mean:,.2f}"
    if spread.sd is None:
        return mean
    sd = f"{spread.sd:,.2f}" if spread.sd >= 0.01 else f"{spread.sd:.1g}"
    return f"{mean} ± {sd}"


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return NONE
    mean = _signed(difference.mean)
    if difference.low is None or difference.high is None:
        return f"{mean} (one seed)"
    interval = f"[{_signed(difference.low)}, {_signed(difference.high)}]"
    return f"{mean} {interval}{MARKS[difference.side]}"


def _signed(value: float, digits: int = 3) -> str:
    text = f"{abs(value):,.{digits}f}"
    if not float(text.replace(",", "")):
        return text
    return f"{MINUS}{text}" if value < 0 else f"+{text}"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _list(items: Iterable[str]) -> str:
    """Write a bulleted list, `none` where there is nothing.

    An item that brings its own indented bullet is one level down.
    """
    lines = [item if item.startswith("  - ") else f"- {item}" for item in items]
    return "\n".join(lines) or "- none"


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"
