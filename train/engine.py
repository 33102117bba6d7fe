"""DeepSpeed's engine from a recipe and a ds_configs file.

The recipe owns batch, clipping and precision; the file owns ZeRO.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from alphadecay import Adam, AdamW
from alphadecay.optim import guard_stage0
from alphadecay.optim import forget_dry_run
from train.config import TrainConfig
from train.errors import UserError
from train.model import build_model, restore_rotary
from train.sources import ROOT

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


def resolve_precision(precision: str) -> str:
    """What "auto" means on this machine: bf16 where it has bf16 arithmetic, else float32."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "float32"
    return "bf16" if _cpu_has_bf16() else "float32"


def _cpu_has_bf16() -> bool:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def load_ds_config(config: TrainConfig, accumulation_steps: int, world_size: int) -> dict[str, Any]:
    """The DeepSpeed configuration with every "auto" filled from the recipe.

    Raises:
        UserError: no such file, not JSON, or a value given in both places with two values; both are
            named.
    """
    path = Path(config.deepspeed.config)
    if not path.exists() and (ROOT / path).exists():
        path = ROOT / path  # ds_configs/ is found from any working directory
    try:
        ds_config: dict[str, Any] = json.loads(
            path.read_text(encoding="utf-8"),
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
    for key, owner in _NOT_OURS.items():
        if key in ds_config:
            raise UserError(f"{path} has {key!r}, which {owner} owns; take it out of the JSON")
    bf16 = resolve_precision(config.run.precision) == "bf16"
    owned: dict[tuple[str, ...], tuple[str, Any]] = {
        ("train_batch_size",): ("run.global_batch", config.run.global_batch),
        ("train_micro_batch_size_per_gpu",): ("run.micro_batch", config.run.micro_batch),
        ("gradient_accumulation_steps",): (
            f"run.global_batch on {world_size} ranks",
            accumulation_steps,
        ),
        ("gradient_clipping",): ("optim.grad_clip", config.optim.grad_clip),
        ("bf16", "enabled"): (f"run.precision {config.run.precision}", bf16),
        ("fp16", "enabled"): (f"run.precision {config.run.precision}", False),
    }
    for keys, (source, value) in owned.items():
        _set_owned(ds_config, keys, value, source, path)
    if bf16 and ds_config.get("zero_optimization", {}).get("stage", 0) > 0:
        ds_config.setdefault("data_types", {"grad_accum_dtype": "fp32"})
    return ds_config


def _each_once(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    """JSON takes the last of two equal keys without a word."""
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


def build_optimizer(config: TrainConfig, parameters: Any) -> torch.optim.Optimizer:
    """The recipe's optimizer; the method "none" decays nothing."""
    kind = AdamW if config.optim.name == "adamw" else Adam
    decay = 0.0 if config.decay.method == "none" else config.optim.weight_decay
    o = config.optim
    return kind(
        parameters, lr=o.lr, betas=(o.beta1, o.beta2), eps=o.eps, weight_decay=decay, fused=o.fused
    )


def build_engine(config: TrainConfig, ds_config: dict[str, Any]) -> Any:
    """Model, optimizer and engine. Collective."""
    import deepspeed

    model = build_model(
        config.model, config.data.sequence_length, config.run.seed_of_init, ds_config
    )
    optimizer = build_optimizer(config, model.parameters())
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=ds_config)
    restore_rotary(engine.module)
    forget_dry_run(optimizer)
    if config.model.compile:
        engine.compile()  # in place, so that names and shards stay as they are
    guard_stage0(engine, optimizer)
    return engine


def set_learning_rate(engine: Any, lr: float) -> None:
    """Sets it in every param group; the optimizer reads it at step time."""
    for group in engine.optimizer.param_groups:
        group["lr"] = lr
