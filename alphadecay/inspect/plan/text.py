"""Writes a plan for a person, in 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from alphadecay.inspect.module_names import layer_and_type
from alphadecay.inspect.plan.memory import Spread
from alphadecay.inspect.plan.plan import Plan
from alphadecay.inspect.plan.refresh import PlannedModule

WIDTH = 80
MOST_WARNINGS = 5


def plan_text(plan: Plan, every_module: bool = False) -> str:
    """Return the plan.

    Args:
        every_module: a line for each module, not one for each type and shape.
    """
    modules = _each(plan.refresh.modules) if every_module else _by_type(plan.refresh.modules)
    blocks = (_title(plan), _refresh(plan), modules, _memory(plan), _sources(plan))
    return "\n\n".join("\n".join(block) for block in blocks)


def _title(plan: Plan) -> Iterator[str]:
    yield _wrapped(
        f"{plan.model.name}: {_count(plan.model.parameters)} parameters, "
        f"{len(plan.refresh.modules):,} modules; {_ranks(plan.world_size)}, {spread_words(plan)}"
    )


def spread_words(plan: Plan) -> str:
    """Say how the ranks share the model, and in what numbers."""
    spread = plan.spread
    if spread.fsdp2:
        copies = plan.world_size // spread.ranks
        groups = f" in {copies} copies over {spread.ranks} each" if copies > 1 else ""
        return f"FSDP2{groups}, float32 shards"
    if not spread.stage and spread.itemsize == spread.accumulation == 4:
        return "whole on each (DDP), float32"
    precision = "bf16" if spread.itemsize == 2 else "float32"
    return f"{spread.name}, {precision}"


def _refresh(plan: Plan) -> Iterator[str]:
    refresh = plan.refresh
    sent = [rank.sent for rank in refresh.ranks]
    received = [rank.received for rank in refresh.ranks]
    owned = [rank.modules for rank in refresh.ranks]
    interval = plan.step.interval
    yield f"Refresh, at every {interval:,} steps"
    yield _line("seconds", f"{_seconds(refresh.seconds)}", _parts(plan))
    yield _line("share", f"{plan.share:.2%}", f"of {interval:,} steps of {_step(plan)}")
    yield _line("imbalance", f"{refresh.imbalance:.2f}", "the busiest rank's work over the mean")
    yield _line("modules", _between(owned), "of a rank")
    if any(sent):
        yield _line("sent", _bytes(max(sent)), f"by a rank at most, {_bytes(sum(sent))} in all")
        yield _line("received", _bytes(max(received)), "by a rank at most")


def _parts(plan: Plan) -> str:
    refresh = plan.refresh
    rounds = "1 round" if refresh.rounds == 1 else f"{refresh.rounds:,} rounds"
    if not plan.spread.wire_itemsize:
        return "of the busiest rank; nothing is sent but the table of alphas"
    return f"{_seconds(refresh.solving)} solving, {_seconds(refresh.moving)} moving, {rounds}"


def _step(plan: Plan) -> str:
    return f"{_seconds(plan.step.seconds)} s ({plan.step.source})"


def _by_type(modules: Sequence[PlannedModule]) -> Iterator[str]:
    """Yield a line for each type and shape."""
    rows = [("type", "shape", "count", "s each", "bytes each", "owners")]

    def key(module: PlannedModule) -> tuple[str, tuple[int, int]]:
        return type_of(module.name), module.shape

    order = {kind: place for place, kind in enumerate(dict.fromkeys(map(key, modules)))}
    ordered = sorted(modules, key=lambda module: order[key(module)])
    for (kind, shape), group in groupby(ordered, key):
        alike = list(group)
        received = max(module.received for module in alike)
        rows.append(
            (
                kind,
                f"{shape[0]} x {shape[1]}",
                f"{len(alike):,}",
                _seconds(alike[0].seconds),
                _bytes(received),
                ranges(module.owner for module in alike),
            )
        )
    yield from _table(rows)


def _each(modules: Sequence[PlannedModule]) -> Iterator[str]:
    """Yield a line for each module; the name last, for it may be long."""
    rows = [("owner", "shape", "s", "bytes", "module")]
    for module in modules:
        shape = f"{module.shape[0]} x {module.shape[1]}"
        figures = (_seconds(module.seconds), _bytes(module.received))
        rows.append((str(module.owner), shape, *figures, module.name))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join(["", *cells, row[-1]])


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows whose first column is to the left, the last cut to what the width leaves."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        first, *figures, last = row
        cells = [cell.rjust(width) for cell, width in zip(figures, widths[1:], strict=True)]
        line = "  ".join(["", first.ljust(widths[0]), *cells, ""])
        room = max(8, WIDTH - len(line))
        yield line + (last if len(last) <= room else last[: room - 1] + "…")


def _memory(plan: Plan) -> Iterator[str]:
    held = plan.memory
    stays = held.weights + held.gradients + held.optimizer
    yield "Memory of the fullest rank"
    for name, size, said in (
        ("weights", held.weights, ""),
        ("gradients", held.gradients, ""),
        ("optimizer", held.optimizer, _masters(plan.spread)),
        ("refresh", plan.refresh_memory, "beside them on the largest module's owner, at most"),
        ("together", stays + plan.refresh_memory, ""),
    ):
        yield _line(name, _bytes(size), said)
    yield _wrapped(
        "To be added in steps, when no refresh is: activations, what is gathered, buffers of "
        "collectives and of the libraries."
    )


def _masters(spread: Spread) -> str:
    has_masters = not spread.fsdp2 and (spread.stage or spread.itemsize == 2)
    return "two moments and float32 weights" if has_masters else "two moments"


def _sources(plan: Plan) -> Iterator[str]:
    yield _wrapped(f"Seconds from {plan.machine.source}.")
    largest = max(plan.machine.eigenvalues)
    beyond = sorted({min(module.shape) for module in plan.refresh.modules})
    if beyond[-1] > largest:
        yield _wrapped(f"Sides above {largest:,} are reckoned from it, as the side cubed.")
    yield from map(_wrapped, plan.model.warnings[:MOST_WARNINGS])
    yield _wrapped("--calibrate measures this machine instead, --step-seconds gives a step's.")


def type_of(name: str) -> str:
    """Return what modules of all layers and experts have in common: "q", "gate_up.gate"."""
    whole, _, part = name.partition("[")
    _, kind = layer_and_type(whole)
    part = part.rstrip("]").lstrip("0123456789").lstrip(".")
    return f"{kind}.{part}" if part else kind


def ranges(numbers: Iterable[int]) -> str:
    """Write numbers as ranges: "0-3, 8"."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{a}-{b}" if b > a else str(a) for a, b in runs)


def _line(label: str, figure: str, said: str) -> str:
    return _wrapped(f"  {label:<10} {figure:>9}  {said}".rstrip(), " " * 24)


def _wrapped(text: str, indent: str = "  ") -> str:
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False)


def _between(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _ranks(count: int) -> str:
    return "1 rank" if count == 1 else f"{count:,} ranks"


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _count(value: int) -> str:
    return f"{value / 1e9:.3g}B" if value >= 1e9 else f"{value / 1e6:.3g}M"


def _bytes(size: int) -> str:
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= limit:
            return (
                f"{size / limit:.3g} {unit}"
                if size < 1000 * limit
                else f"{size / limit:,.0f} {unit}"
            )
    return f"{size} B"
