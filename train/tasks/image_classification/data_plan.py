"""Tells of a run that is not begun what images it would read, and how often."""

from __future__ import annotations

from train.config import TrainConfig
from train.data.images.sources import are_verified, check_named, open_images
from train.errors import Problems
from train.tasks.task import DataPlan


def plan_images(config: TrainConfig, problems: Problems) -> DataPlan:
    """Return what a dry run says of the images, and note what would stop the run."""
    run = config.run
    rows = run.steps * run.global_batch
    line = (
        f"Images {rows:,}: {run.steps:,} steps of {run.global_batch} rows of "
        f"{config.positions:,} positions"
    )
    found = len(problems.found)
    problems.attempt(lambda: check_named(config.images))
    if len(problems.found) > found:
        return DataPlan((line,))
    if not are_verified(config.images, config.data):
        wait = "the images are not verified yet: the run reads each of them once first"
        return DataPlan((line, f"  {wait}"))
    opened = problems.attempt(lambda: open_images(config.images, config.data, config.model))
    if opened is None:
        return DataPlan((line,))
    training, validation = opened
    count = len(training.labels)
    epochs = (
        f"  {count:,} of {len(training.classes):,} classes to train on: {rows / count:,.2f} "
        f"epochs; {len(validation.labels):,} to validate on"
    )
    if bad := training.bad + validation.bad:
        epochs += f"; {bad:,} cannot be read"
    return DataPlan((line, epochs), training.identity)
