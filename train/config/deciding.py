"""Tells which settings decide what a run trains, and which of them differ between two runs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from train.config import HOW_IT_COMPUTES, TrainConfig

# What a run may go on with differently: where and how it computes, and what it keeps, not what it
# trains.
_SECTIONS = ("checkpoint", "deepspeed", "engine", "log")
_FREE = {"name", "output_dir", "resume", "eval.micro_batch"}
_FREE |= {f"data.{key}" for key in ("directory", "workers", "read_ahead")}
_FREE.add("images.workers")
_FREE |= {f"run.{key}" for key in ("micro_batch", "max_hours", "max_skipped_steps", "spike_sd")}
_FREE.add("run.deterministic")
_FREE |= {f"model.{key}" for key in HOW_IT_COMPUTES}


def deciding(config: TrainConfig) -> dict[str, Any]:
    """Return the settings that decide what a run trains, by dotted key, as JSON gives them back."""
    return {key: value for key, value in all_settings(config).items() if not _is_free(key)}


def all_settings(config: TrainConfig) -> dict[str, Any]:
    """Return every setting by dotted key, as JSON gives it back: lists, no tuples."""
    settings: dict[str, Any] = {}
    for key, value in dataclasses.asdict(config).items():
        if isinstance(value, dict):
            settings |= {f"{key}.{leaf}": setting for leaf, setting in value.items()}
        else:
            settings[key] = value
    plain: dict[str, Any] = json.loads(json.dumps(settings))
    return plain


def changes(was: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return what is not the same; an entry reads "optim.lr was 0.001, is 0.002".

    A key that `was` does not know had its default: that is what the program did before the key was
    there.
    """
    before = all_settings(TrainConfig()) | dict(was)
    return [
        f"{key} was {before[key]}, is {value}"
        for key, value in now.items()
        if before.get(key) != value
    ]


def other_settings(was: TrainConfig, now: TrainConfig) -> list[str]:
    """Return what a run was begun with and would not be now, as `changes` says it.

    A run with decay.base auto has put its own base decay in the place of auto.
    """
    wanted = deciding(now)
    if was.decay.base == now.decay.base != "given":
        del wanted["optim.weight_decay"]
    return changes(deciding(was), wanted)


def _is_free(key: str) -> bool:
    return key in _FREE or key.partition(".")[0] in _SECTIONS
