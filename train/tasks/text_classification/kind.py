"""Classification and regression of text before their data are opened."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from alphadecay.inspect.run.metrics import FigureOfMerit
from train.config import TrainConfig
from train.config.sentences import Metric
from train.errors import Problems

if TYPE_CHECKING:
    from train.cluster.distributed import World
    from train.tasks.task import DataPlan, Interruptible
    from train.tasks.text_classification.task import TextClassification

FIGURES: Mapping[Metric, FigureOfMerit] = MappingProxyType(
    {
        "accuracy": FigureOfMerit("val_accuracy", "accuracy, %", "higher"),
        "matthews": FigureOfMerit("val_matthews", "Matthews correlation, %", "higher"),
        "f1": FigureOfMerit("val_f1", "F1, %", "higher"),
        "pearson_spearman": FigureOfMerit("val_pearson", "Pearson correlation, %", "higher"),
    }
)


def metric_of(config: TrainConfig) -> Metric:
    """Return what sentences.metric means."""
    metric = config.sentences.metric
    if metric != "auto":
        return metric
    task = config.sentences.glue_task
    if task is not None:
        return task.metric
    return "pearson_spearman" if config.task == "text_regression" else "accuracy"


def figure_of(config: TrainConfig) -> FigureOfMerit:
    """Return the figure of merit."""
    return FIGURES[metric_of(config)]


def open_task(
    config: TrainConfig, world: World, interruptible: Interruptible
) -> TextClassification:
    """Tokenize the sentences where that is due, and open them. Collective.

    Raises:
        UserError: sentences that cannot be used, on every rank.
        Stopped: rank 0 was asked to stop meanwhile.
    """
    from train.tasks.text_classification.task import open_text_classification

    return open_text_classification(config, world, interruptible)


def prepare(config: TrainConfig) -> list[Path]:
    """Tokenize the sentences, and return their folder."""
    from train.data.sentences.prepare import prepare_sentences

    return [prepare_sentences(config)]


def rows_ready(config: TrainConfig) -> int:
    """Return how many training rows are prepared."""
    from train.data.sentences.arrays import read_meta
    from train.data.sentences.prepare import find_prepared

    folder, ready = find_prepared(config)
    return read_meta(folder).rows["train"] if ready else 0


def plan_data(config: TrainConfig, problems: Problems) -> DataPlan:
    """Return what a dry run says of the sentences."""
    from train.tasks.text_classification.data_plan import plan_sentences

    return plan_sentences(config, problems)
