"""Image classification before its images are opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alphadecay.inspect.run.metrics import FigureOfMerit
from train.config import TrainConfig
from train.errors import Problems

if TYPE_CHECKING:
    from train.cluster.distributed import World
    from train.tasks.image_classification.task import ImageClassification
    from train.tasks.task import DataPlan, Interruptible

TOP1 = FigureOfMerit("val_top1", "top-1 accuracy (%)", "higher")


def figure_of(config: TrainConfig) -> FigureOfMerit:
    """Return the figure of merit: of the weights themselves, whether or not they are averaged."""
    return TOP1


def open_task(
    config: TrainConfig, world: World, interruptible: Interruptible
) -> ImageClassification:
    """Verify the images where that is due, and open them. Collective.

    Raises:
        UserError: images that cannot be used, on every rank.
        Stopped: rank 0 was asked to stop meanwhile.
    """
    from train.tasks.image_classification.task import open_image_classification

    return open_image_classification(config, world, interruptible)


def prepare(config: TrainConfig) -> list[Path]:
    """Read each image once, and return the files that remember them."""
    from train.data.images.sources import prepare_images

    return list(prepare_images(config.images, config.data, config.model))


def rows_ready(config: TrainConfig) -> int:
    """Return how many images are verified."""
    from train.data.images.sources import images_verified

    return images_verified(config.images, config.data)


def plan_data(config: TrainConfig, problems: Problems) -> DataPlan:
    """Return what a dry run says of the images."""
    from train.tasks.image_classification.data_plan import plan_images

    return plan_images(config, problems)
