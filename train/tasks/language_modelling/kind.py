"""Language modelling before its data are opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alphadecay.inspect.run.metrics import PERPLEXITY, FigureOfMerit
from train.config import TrainConfig
from train.errors import Problems

if TYPE_CHECKING:
    from train.cluster.distributed import World
    from train.tasks.language_modelling.task import LanguageModelling
    from train.tasks.task import DataPlan, Interruptible


def figure_of(config: TrainConfig) -> FigureOfMerit:
    """Return the figure of merit."""
    return PERPLEXITY


def open_task(config: TrainConfig, world: World, interruptible: Interruptible) -> LanguageModelling:
    """Prepare the corpora, or the beginning of the only one, and open them. Collective.

    Raises:
        UserError: data that cannot be used, on every rank.
        Stopped: rank 0 was asked to stop meanwhile.
    """
    from train.tasks.language_modelling.task import open_language_modelling

    return open_language_modelling(config, world, interruptible)


def prepare(config: TrainConfig) -> list[Path]:
    """Turn the corpora into token files, and return their folders."""
    from train.data.preparing.corpora import prepare_all

    return prepare_all(config.data, config.model.vocab_size)


def rows_ready(config: TrainConfig) -> int:
    """Return how many documents of the run's corpora are prepared."""
    from train.data.preparing.corpora import documents_prepared

    return documents_prepared(config.data, config.model.vocab_size)


def plan_data(config: TrainConfig, problems: Problems) -> DataPlan:
    """Return what a dry run says of the corpora."""
    from train.tasks.language_modelling.data_plan import plan_corpora

    return plan_corpora(config, problems)
