"""Tells what a resume changes that a checkpoint lets it change: the schedule, and the rounding."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from train.config import TrainConfig
from train.config.command_line import load_config
from train.config.run_folder import CONFIG
from train.errors import UserError
from train.loop.schedules import learning_rate

# What a checkpoint does not have to share, and what the steps to come depend on.
_SCHEDULE = ("lr", "schedule", "warmup_steps", "min_lr_ratio", "wsd_decay_share", "cycle_momentum")
_CHANGED = ("grad_clip",)
_ROUNDING = ("fused",)
# Where images lie and who reads them: the rows stay the same.
_SAME_IMAGES = ("source", "train", "validation", "image_column", "label_column", "workers")


def resume_changes(config: TrainConfig, run: Path, step: int) -> str:
    """Return in a line what differs from the run's settings so far, empty where nothing does.

    Args:
        run: the folder of the run that the checkpoint is of; it keeps its settings.
        step: of the checkpoint.
    """
    try:
        before = load_config(["--config", str(run / CONFIG)])
    except (UserError, OSError):  # moved without its run, or of a version with other keys
        return ""
    parts = [_optim(before, config, _SCHEDULE)]
    if before.run.steps != config.run.steps:
        parts.insert(0, [f"run.steps was {before.run.steps}, is {config.run.steps}"])
    said = [text for part in parts for text in part]
    if said:
        said[-1] += f" ({_rates(before, config, step + 1)})"
    said += _optim(before, config, _CHANGED)
    if before.loss.z_loss != config.loss.z_loss:
        said.append(f"loss.z_loss was {before.loss.z_loss}, is {config.loss.z_loss}")
    said += _images(before, config)
    rounding = _optim(before, config, _ROUNDING)
    if rounding:
        rounding[-1] += " (the same updates, rounded elsewhere: no longer bit for bit)"
    return "; ".join(said + rounding)


def _optim(before: TrainConfig, now: TrainConfig, keys: tuple[str, ...]) -> list[str]:
    pairs = [(key, getattr(before.optim, key), getattr(now.optim, key)) for key in keys]
    return [f"optim.{key} was {was}, is {value}" for key, was, value in pairs if was != value]


def _images(before: TrainConfig, now: TrainConfig) -> list[str]:
    """Return what is done otherwise to images that a checkpoint knows by their content alone."""
    if now.task != "image_classification":
        return []
    was, settings = asdict(before.images), asdict(now.images)
    changed = [key for key in settings if key not in _SAME_IMAGES and was[key] != settings[key]]
    return [f"images.{key} was {was[key]}, is {settings[key]}" for key in changed]


def _rates(before: TrainConfig, now: TrainConfig, step: int) -> str:
    """Return what becomes of the learning rate of the next step."""
    if step > before.run.steps:
        was = "none"
    else:
        was = f"{learning_rate(before.optim, step, before.run.steps):.3g}"
    rate = learning_rate(now.optim, step, now.run.steps)
    return f"the learning rate of step {step} was to be {was} and is {rate:.3g}"
