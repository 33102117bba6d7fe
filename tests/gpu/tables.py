"""A table in Markdown for each part of a measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

GB = 1e9
Figures = Mapping[str, Any]
Row = Sequence[str]


def measured(part: Figures) -> dict[str, Figures]:
    """Return the cases of a part that have figures."""
    missing = ("left_out", "cut_off", "failed", "out_of_memory")
    return {name: case for name, case in part.items() if not any(key in case for key in missing)}


def markdown(headings: Row, rows: Iterable[Row]) -> str:
    """Lay out a table; empty where it has no rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(headings)} |", "|---" * len(headings) + "|", *lines])


def number(case: Figures, key: str, form: str = ".3g", scale: float = 1.0) -> str:
    """Return a figure as a word, or a dash where there is none."""
    value = case.get(key)
    return "–" if value is None else format(scale * value, form)


def equality(part: Figures) -> str:
    rows = [
        (name, number(case, "weights", ".0e"), number(case, "decays", ".0e"), _verdict(case))
        for name, case in measured(part).items()
    ]
    return markdown(("against an unsharded run", "weights", "decays ÷ base", ""), rows)


def _verdict(case: Figures) -> str:
    return "equal" if case["ok"] else "**differs**"


def test_counts(part: Figures) -> str:
    rows = [
        (name, f"{case['passed']}", ", ".join(case["failures"]) or "0", f"{case['skipped']}")
        for name, case in measured(part).items()
    ]
    return markdown(("tests", "passed", "failed", "skipped"), rows)


def speed(part: Figures) -> str:
    """Return a row a recipe: AlphaDecay's figures, and what they are of Uniform's."""
    cases = measured(part)
    rows = []
    for size in dict.fromkeys(name.split()[0] for name in cases):
        ours = cases.get(f"{size} alphadecay")
        if ours is None or "tokens_per_second" not in ours:
            continue
        uniform = cases.get(f"{size} uniform")
        kept = 1.0 - ours.get("refresh_share", 0.0)
        ratio = kept * ours["tokens_per_second"] / uniform["tokens_per_second"] if uniform else None
        rows.append(
            (
                size.upper(),
                f"ZeRO-{ours['zero_stage']}, {ours['micro_batch']}",
                number(ours, "tokens_per_second", ",.0f"),
                number(ours, "mfu", ".1%"),
                "–" if ratio is None else f"{ratio:.3f}",
                number(ours, "refresh_seconds", ".2f"),
                number(ours, "refresh_share", ".2%"),
                number(ours, "first_step_seconds", ".1f"),
                f"{number(ours, 'memory_allocated', '.1f', 1 / GB)} "
                f"({number(ours, 'memory_predicted', '.1f', 1 / GB)})",
            )
        )
    headings = (
        "recipe as shipped",
        "ZeRO stage, micro batch",
        "tokens/s",
        "MFU",
        "÷ Uniform, refreshes included",
        "a refresh, s",
        "its share of 500 steps",
        "first step, s",
        "memory, GB (predicted)",
    )
    return markdown(headings, rows)


def engines(part: Figures, base: Figures) -> str:
    """Return a row a recipe and engine, DeepSpeed's of the recipe as shipped."""
    rows = []
    for name, ours in measured(part).items():
        size, _, kind = name.partition(" ")
        theirs = base.get(f"{size} alphadecay")
        if theirs is not None:
            rows.append(_engine_row(size, f"DeepSpeed, ZeRO-{theirs['zero_stage']}", theirs))
        rows.append(_engine_row(size, kind.upper(), ours))
    headings = (
        "recipe",
        "engine",
        "micro batch",
        "tokens/s",
        "MFU",
        "first step, s",
        "memory, GB (predicted)",
    )
    return markdown(headings, rows)


def evidence(part: Figures) -> str:
    """Return a row a method, the lowest perplexity first."""
    cases = measured(part)
    rows = [
        (
            name,
            number(case, "val_perplexity", ".2f"),
            number(case, "train_loss", ".3f"),
            number(case, "base_decay", ".3g"),
            number(case, "mean_cumulative_decay", ".3g"),
            number(case, "tokens", ",.0f"),
        )
        for name, case in sorted(cases.items(), key=lambda one: float(one[1]["val_perplexity"]))
    ]
    headings = (
        "60M, one seed",
        "validation perplexity",
        "training loss",
        "base decay",
        "Σ lr · decay",
        "tokens",
    )
    return markdown(headings, rows)


def _engine_row(size: str, engine: str, case: Figures) -> Row:
    return (
        size.upper(),
        engine,
        f"{case['micro_batch']}",
        number(case, "tokens_per_second", ",.0f"),
        number(case, "mfu", ".1%"),
        number(case, "first_step_seconds", ".1f"),
        f"{number(case, 'memory_allocated', '.1f', 1 / GB)} "
        f"({number(case, 'memory_predicted', '.1f', 1 / GB)})",
    )


def ablations(part: Figures, base: Figures) -> str:
    """Return a row a default that is off: its speed, and that of the recipe as shipped."""
    rows = []
    for name, case in measured(part).items():
        size, _, what = name.partition(" ")
        whole = base.get(f"{size} alphadecay", {}).get("tokens_per_second")
        share = case["tokens_per_second"] / whole if whole else None
        rows.append(
            (
                size.upper(),
                what,
                f"ZeRO-{case['zero_stage']}, {case['micro_batch']}",
                number(case, "tokens_per_second", ",.0f"),
                number(case, "mfu", ".1%"),
                "–" if share is None else f"{share:.2f}",
            )
        )
    headings = (
        "recipe",
        "without / with",
        "ZeRO stage, micro batch",
        "tokens/s",
        "MFU",
        "÷ shipped",
    )
    return markdown(headings, rows)


def _by_columns(part: Figures, head: str, columns: Mapping[str, tuple[str, str]]) -> str:
    """Return a row a case.

    Args:
        head: of the names.
        columns: figure -> its heading and its form.
    """
    rows = [
        (name.upper(), *(number(case, key, form) for key, (_, form) in columns.items()))
        for name, case in measured(part).items()
    ]
    return markdown((head, *(heading for heading, _ in columns.values())), rows)


def refreshes(part: Figures) -> str:
    columns = {
        "modules": ("modules", ".0f"),
        "refresh": ("s", ".2f"),
        "first": ("the first, s", ".2f"),
        "moments": ("by moments, s", ".2f"),
        "published": ("svdvals, as published, s", ".2f"),
        "extra_over_largest": ("extra memory ÷ largest matrix", ".1f"),
    }
    return _by_columns(part, "refresh of", columns)


def eigvalsh(part: Figures) -> str:
    columns = {
        "float32": ("eigvalsh float32, ms", ".3g"),
        "float64": ("float64", ".3g"),
        "svdvals": ("svdvals", ".3g"),
        "gram": ("Gram product", ".3g"),
    }
    return _by_columns(part, "side", columns)


def stacks(part: Figures) -> str:
    cases = measured(part)
    every = (key for case in cases.values() for key in case)
    apart = ("seconds", "left_allocated", "of_moments")
    ways = [key for key in dict.fromkeys(every) if key not in apart]
    rows = [(name, *(number(case, way) for way in ways)) for name, case in cases.items()]
    return markdown(("stack", *(f"{way}, ms" for way in ways)), rows)


def steps(part: Figures) -> str:
    rows = []
    for name, case in measured(part).items():
        ratios = {
            arm: f"{clocks['engine_step']['median']:.3f}"
            for arm, clocks in case["over_stock"].items()
        }
        arms = [ratios.get(arm, "–") for arm in ("alphadecay", "stock_again", "per_module")]
        syncs = "{alphadecay} and {stock}".format(**case["host_syncs"])
        size, _, stage = name.partition(", ")
        rows.append((f"{size.upper()}, {stage}", *arms, syncs))
    headings = (
        "optimizer step ÷ stock AdamW's",
        "AlphaDecay",
        "a second stock engine",
        "a group per module",
        "host syncs, ours and stock's",
    )
    return markdown(headings, rows)


def program(part: Figures) -> str:
    keys = ("losses", "decays", "weights")
    rows = [
        (name, *(number(case, key, ".0e") for key in keys), _verdict(case))
        for name, case in measured(part).items()
    ]
    return markdown(("the program against one process", *keys, ""), rows)


def saves(part: Figures) -> str:
    columns = {
        "plain_seconds": ("a plain save, s", ".2f"),
        "asynchronous_seconds": ("wait for an asynchronous one, s", ".3f"),
        "stall": ("÷ plain", ".3f"),
        "step_seconds": ("a step, s", ".3f"),
        "beside": ("beside a save ÷ without", ".3f"),
        "slowest_beside": ("the slowest ÷ the slowest", ".3f"),
    }
    return _by_columns(part, "saves of", columns)


def start_up(part: Figures) -> str:
    rows = []
    for name, case in measured(part).items():
        parts = sorted(case["parts"].items(), key=lambda item: -item[1])
        words = ", ".join(f"{key.replace('_', ' ')} {value:.1f}" for key, value in parts)
        rows.append((name.upper(), f"{case['command']:.1f}", words))
    return markdown(("start-up", "command to first step, s", "of it, s"), rows)


TABLES: Mapping[str, Callable[[Figures], str]] = {
    "speed": speed,
    "steps": steps,
    "refreshes": refreshes,
    "eigvalsh": eigvalsh,
    "stacks": stacks,
    "start-up": start_up,
    "evidence": evidence,
    "equality": equality,
    "program": program,
    "saves": saves,
    "tests": test_counts,
}
