"""Resolves a DeepSpeed JSON with the recipe.

The recipe owns batch, clipping and precision; the file owns ZeRO.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from train.config import TrainConfig
from train.engines.precision import resolve_precision
from train.errors import UserError
from train.system.provenance import ROOT

# From so many ranks on gradients are summed in float32: a sum in bf16 keeps 8 bits, and is wrong by
# 1 % at 64 ranks. It costs twice the traffic.
MANY_RANKS = 64
_REDUCED_IN = "communication_data_type"

# Sections of a DeepSpeed JSON that say what the recipe says: (its keys, who owns the matter).
_NOT_OURS = {
    "optimizer": "the optim section of the recipe",
    "scheduler": "the optim section of the recipe",
    "activation_checkpointing": "model.activation_checkpointing of the recipe",
    "compile": "model.compile of the recipe",
    "amp": "run.precision of the recipe",
    "torch_autocast": "run.precision of the recipe",
    "bfloat16": "run.precision of the recipe (the section is called bf16)",
    "data_efficiency": "the data section of the recipe",
    "curriculum_learning": "the data section of the recipe",
    "wandb": "the log section of the recipe",
    "tensorboard": "the log section of the recipe",
}


def zero_stage(ds_config: Mapping[str, Any]) -> int:
    """Return the ZeRO stage of a DeepSpeed configuration; 0 where it names none."""
    return int(ds_config.get("zero_optimization", {}).get("stage", 0))


def computes_in_bf16(ds_config: Mapping[str, Any]) -> bool:
    """Return whether weights and activations are bf16."""
    return bool(ds_config.get("bf16", {}).get("enabled"))


def find_ds_config(name: str) -> Path:
    """Return the file that deepspeed.config names.

    A path wins; else it is a file of ds_configs by its name, or a path in the project's folder.
    """
    path = Path(name).expanduser()
    shipped = ROOT / "ds_configs"
    candidates = (path, shipped / f"{name}.json", shipped / name, ROOT / path)
    return next((found for found in candidates if found.is_file()), path)


def load_ds_config(config: TrainConfig, accumulation_steps: int, world_size: int) -> dict[str, Any]:
    """Return the DeepSpeed configuration with every "auto" filled from the recipe.

    Raises:
        UserError: no such file, not JSON, or a value given in both places with two values; both are
            named.
    """
    path = find_ds_config(config.deepspeed.config)
    ds_config = _read(path)
    for key, owner in _NOT_OURS.items():
        if key in ds_config:
            raise UserError(f"{path} has {key!r}, which {owner} owns; take it out of the JSON")
    bf16 = resolve_precision(config.run.precision) == "bf16"
    accumulation = f"run.global_batch on {world_size} ranks"
    precision = f"run.precision {config.run.precision}"
    owned: dict[tuple[str, ...], tuple[str, Any]] = {
        ("train_batch_size",): ("run.global_batch", config.run.global_batch),
        ("train_micro_batch_size_per_gpu",): ("run.micro_batch", config.run.micro_batch),
        ("gradient_accumulation_steps",): (accumulation, accumulation_steps),
        ("gradient_clipping",): ("optim.grad_clip", config.optim.grad_clip),
        ("bf16", "enabled"): (precision, bf16),
        ("fp16", "enabled"): (precision, False),
    }
    for keys, (source, value) in owned.items():
        _set_owned(ds_config, keys, value, source, path)
    if bf16 and zero_stage(ds_config) > 0:
        ds_config.setdefault("data_types", {"grad_accum_dtype": "fp32"})
    if ds_config.get(_REDUCED_IN, "auto") == "auto":
        ds_config.pop(_REDUCED_IN, None)  # DeepSpeed knows no "auto" here
        if bf16 and world_size >= MANY_RANKS:
            ds_config[_REDUCED_IN] = "fp32"
    return ds_config


def gradients_reduced_in(ds_config: Mapping[str, Any]) -> str:
    """Return the dtype in which DeepSpeed sums gradients over the ranks: fp32, bf16 or fp16."""
    if _REDUCED_IN in ds_config:
        return str(ds_config[_REDUCED_IN]).lower()
    return "bf16" if computes_in_bf16(ds_config) else "fp32"


def gradients_accumulated_in(ds_config: Mapping[str, Any]) -> str:
    """Return the dtype in which DeepSpeed adds up the gradients of micro batches."""
    given = ds_config.get("data_types", {}).get("grad_accum_dtype")
    return str(given or ("bf16" if computes_in_bf16(ds_config) else "fp32")).lower()


def _read(path: Path) -> dict[str, Any]:
    try:
        ds_config: dict[str, Any] = json.loads(
            path.read_text(encoding="utf-8-sig"),  # an editor may have put a byte order mark
            object_pairs_hook=lambda pairs: _each_once(pairs, path),
        )
    except FileNotFoundError:
        raise UserError(
            f"deepspeed.config: no file {path}; ds_configs/ has zero0.json to zero3.json"
        ) from None
    except OSError as error:
        raise UserError(f"deepspeed.config: cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {error}") from None
    if not isinstance(ds_config, dict):
        raise UserError(
            f"{path} holds a {type(ds_config).__name__}; DeepSpeed takes a JSON object, see "
            "ds_configs/zero3.json"
        )
    return ds_config


def _each_once(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    """Refuse a key that stands twice: JSON takes the last of the two without a word."""
    section: dict[str, Any] = {}
    for key, value in pairs:
        if key in section and section[key] != value:
            raise UserError(
                f"{path} sets {key!r} twice in one object, to {section[key]!r} and to {value!r}; "
                "keep one"
            )
        section[key] = value
    return section


def _set_owned(
    ds_config: dict[str, Any], keys: tuple[str, ...], value: Any, source: str, path: Path
) -> None:
    section = ds_config
    for key in keys[:-1]:
        section = section.setdefault(key, {})
        if not isinstance(section, dict):
            raise UserError(
                f'{path} sets {key} to {section!r}; it takes an object such as {{"enabled": '
                '"auto"}'
            )
    given = section.get(keys[-1], "auto")
    if given not in ("auto", value):
        raise UserError(
            f"{path} sets {'.'.join(keys)} to {given}, the recipe ({source}) to {value}; write "
            '"auto" in the JSON'
        )
    section[keys[-1]] = value
