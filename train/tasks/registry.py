"""Finds a task by its name. A task's own module is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import cast

from alphadecay.inspect.run.metrics import FigureOfMerit
from train.config import TrainConfig
from train.tasks.task import TaskKind

PACKAGES: Mapping[str, str] = MappingProxyType(
    {
        "image_classification": "image_classification",
        "language_modelling": "language_modelling",
        "modular_arithmetic": "modular_arithmetic",
        "text_classification": "text_classification",
        "text_regression": "text_classification",
    }
)


def kind_of(config: TrainConfig) -> TaskKind:
    """Return what can be said of a run's task before its data are opened."""
    return cast(TaskKind, import_module(f"train.tasks.{PACKAGES[config.task]}.kind"))


def figure_of(config: TrainConfig) -> FigureOfMerit:
    """Return the figure of merit of a run."""
    return kind_of(config).figure_of(config)
