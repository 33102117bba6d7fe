"""Tells of a run that is not begun what sentences it would read, and how often."""

from __future__ import annotations

from train.config import TrainConfig
from train.data.sentences.arrays import read_meta
from train.data.sentences.prepare import find_prepared
from train.errors import Problems
from train.tasks.task import DataPlan


def plan_sentences(config: TrainConfig, problems: Problems) -> DataPlan:
    """Return what a dry run says of the sentences, and note what would stop the run."""
    run = config.run
    rows = run.steps * run.global_batch
    line = (
        f"Rows {rows:,}: {run.steps:,} steps of {run.global_batch} rows of at most "
        f"{config.positions} tokens"
    )
    found = problems.attempt(lambda: find_prepared(config))
    if found is None:
        return DataPlan((line,))
    folder, ready = found
    if not ready:
        wait = f"{folder} is not prepared yet: the run does it first"
        return DataPlan((line, f"  {wait}"))
    meta = problems.attempt(lambda: read_meta(folder))
    if meta is None:
        return DataPlan((line,))
    count = meta.rows["train"]
    epochs = (
        f"  {count:,} prepared in {folder}: {rows / count:,.2f} epochs; "
        f"{meta.rows['validation']:,} to validate on"
    )
    identity = identity_of(meta.content)
    return DataPlan((line, epochs), identity, lambda saved: saved == identity)


def identity_of(content: str) -> str:
    """Return what a checkpoint remembers of the sentences."""
    return f"sentences {content}"
