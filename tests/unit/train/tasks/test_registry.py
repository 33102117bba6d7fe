"""Every task of the settings is there, with an architecture, and says by what its runs compare."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import get_args

import pytest

from train.config import ARCHITECTURES, ModelConfig, TaskName, TrainConfig
from train.models import spec_of
from train.tasks.registry import PACKAGES, figure_of, kind_of
from train.tasks.task import TaskKind

TASKS = get_args(TaskName)


def test_no_task_is_missing_anywhere() -> None:
    assert set(TASKS) == set(PACKAGES) == set(ARCHITECTURES)


@pytest.mark.parametrize("task", TASKS)
def test_a_kind_has_the_functions_of_the_protocol(task: TaskName) -> None:
    kind = kind_of(TrainConfig(task=task))
    for name, wanted in vars(TaskKind).items():
        if not name.startswith("_") and callable(wanted):
            _, *parameters = inspect.signature(wanted).parameters
            assert list(inspect.signature(getattr(kind, name)).parameters) == parameters, name


@pytest.mark.parametrize("task", TASKS)
def test_a_task_has_a_figure_of_merit(task: TaskName) -> None:
    figure = figure_of(TrainConfig(task=task))
    assert figure.name.startswith("val_") and figure.label and figure.better in ("lower", "higher")


@pytest.mark.parametrize(
    ("task", "architecture"), [(task, name) for task in TASKS for name in ARCHITECTURES[task]]
)
def test_an_architecture_of_a_task_can_be_trained(task: TaskName, architecture: str) -> None:
    model = replace(ModelConfig(), architecture=architecture)  # type: ignore[arg-type]
    spec = spec_of(model)
    assert spec.parts and isinstance(spec.fuses_loss, bool)
