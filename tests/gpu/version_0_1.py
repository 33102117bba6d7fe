"""Reads the figures of version 0.1 on an H200, whose files have another form."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

# What the run of that name was, for nothing in the file says so.
_ZERO_STAGE = 3
_MICRO_BATCH = 32


def read_version_0_1(folder: Path) -> dict[str, Any]:
    """Return them in the form of a measurement of today."""

    def content(name: str) -> Any:
        return json.loads((folder / f"{name}.json").read_text())

    return {
        "machine": {
            "device": "NVIDIA H200",
            "commit": "19b176b",
            "version": "0.1",
            "date": "2026-11-26",
        },
        "parts": {
            "speed": {"60m alphadecay": _speed(content("program-recipes"))},
            "steps": {_step_name(name): _step(one) for name, one in content("step").items()},
            "refreshes": {
                name.partition(":")[0]: _refresh(one)
                for name, one in content("step").items()
                if name.endswith(":1")
            },
            "eigvalsh": {side: _eigvalsh(one) for side, one in content("eigensolver").items()},
        },
    }


def _speed(runs: list[dict[str, Any]]) -> dict[str, Any]:
    run = next(run for run in runs if run["tag"] == "60m-recipe")
    tokens = 512 * 256
    step = tokens / run["tokens_per_second"]
    refresh = median(run["refresh_s"][1:])
    return {
        "zero_stage": _ZERO_STAGE,
        "micro_batch": _MICRO_BATCH,
        "tokens_per_second": run["tokens_per_second"],
        "mfu": run["mfu"],
        "refresh_seconds": refresh,
        "refresh_share": refresh / (500 * step + refresh),
        "memory_allocated": run["memory"]["peak_allocated_bytes"],
    }


def _step_name(name: str) -> str:
    model, _, stage = name.partition(":")
    return f"{model}, ZeRO-{stage}"


def _step(one: dict[str, Any]) -> dict[str, Any]:
    names = {"ours": "alphadecay"}
    ratios = {names.get(arm, arm): ratio for arm, ratio in one["step_ratio"].items()}
    return {
        "over_stock": {arm: {"engine_step": {"median": ratio}} for arm, ratio in ratios.items()},
        "host_syncs": {"alphadecay": one["host_syncs_ours"], "stock": one["host_syncs_stock"]},
    }


def _refresh(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "modules": one["modules"],
        "refresh": median(one["refresh_s"]),
        "published": one["published_refresh_s"],
        "extra_over_largest": one["refresh_peak_mib"] / one["largest_matrix_f32_mib"],
    }


def _eigvalsh(one: dict[str, float]) -> dict[str, float]:
    return {
        "float32": one["single_ms"],
        "float64": one["single_f64_ms"],
        "svdvals": one["svdvals_ms"],
        "gram": one["gram_ms"],
    }
