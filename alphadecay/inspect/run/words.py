"""Writes the figures of a run for a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def number_or_dash(value: float | None, form: str = "") -> str:
    """Format a value, or write it as `number` does; a dash where there is none."""
    if value is None:
        return "-"
    return form.format(value) if form else number(value)


def number(value: float) -> str:
    """Write a number in three or four figures: 0.123, 45.6, 1,234, 12.3k, 4.56M, 7.89B."""
    for limit, suffix in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if limit <= abs(value) < float("inf"):
            scaled = value / (1e3 if suffix == "k" else limit)
            return f"{scaled:.2f}{suffix}" if scaled < 10 else f"{scaled:.1f}{suffix}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.4g}"


def clock(seconds: float) -> str:
    """Write seconds as m:ss, or h:mm:ss from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def engine_words(record: Mapping[str, Any]) -> str:
    """Name what shards a run's state: ZeRO-3, FSDP2, or FSDP2 (HSDP, 2 ranks a copy).

    Args:
        record: the keys `engine`, `zero_stage`, `engine_shard` and `world_size`, as a summary has
            them; a missing one is not told. Empty where neither engine nor stage is known.
    """
    if record.get("engine") == "fsdp2":
        shard, ranks = record.get("engine_shard") or 0, record.get("world_size") or 0
        if 0 < shard < ranks:
            return f"FSDP2 (HSDP, {shard} rank{'s' * (shard > 1)} a copy)"
        return "FSDP2"
    stage = record.get("zero_stage")
    return "" if stage is None else f"ZeRO-{stage}"
