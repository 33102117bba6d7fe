"""Tells of a run that is not begun how often it would read what is prepared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from train.config import DataConfig, TrainConfig
from train.data.loading.dataset import BLOCK_ROWS, data_identity, same_data
from train.data.loading.memmap import TokenFile
from train.data.preparing.corpora import PreparedCorpus, find_all
from train.errors import Problems
from train.tasks.task import DataPlan


def plan_corpora(c: TrainConfig, problems: Problems) -> DataPlan:
    """Return what a dry run says of the corpora, and note what would stop the run."""
    vocabulary = c.model.vocab_size
    prepared = problems.attempt(lambda: find_all(c.data, vocabulary)) or []
    lines = problems.attempt(lambda: tuple(data_lines(c, prepared))) or ()
    folders = [corpus.folder for corpus in prepared if corpus.ready and corpus.folder]
    if not prepared or len(folders) < len(prepared):
        return DataPlan(lines)
    identity = data_identity(folders, c.data)
    return DataPlan(lines, identity, lambda saved: same_data(saved, folders, c.data))


def data_lines(c: TrainConfig, prepared: Sequence[PreparedCorpus]) -> Iterator[str]:
    """Yield the tokens of the run, and the epochs of each corpus."""
    tokens = c.positions_of_run
    yield (
        f"Tokens {tokens:,}: {c.run.steps:,} steps of {c.run.global_batch} rows of "
        f"{c.data.sequence_length}"
    )
    if c.data.source == "c4" and not c.data.mixture:
        yield "  " + _hub(c.data)
    if c.data.start_early:
        yield f"  shuffled in blocks of {BLOCK_ROWS:,} rows (data.start_early)"
    weights = [source.weight for source in c.data.mixture] or [1.0]
    for corpus, weight in zip(prepared, weights, strict=False):
        yield "  " + _corpus(corpus, tokens * weight / sum(weights), c)


def _hub(data: DataConfig) -> str:
    if Path(data.repository).expanduser().is_dir():
        return f"from the copy of allenai/c4 in {data.repository}"
    if data.revision:
        return f"from {data.repository} at revision {data.revision}"
    return f"from {data.repository}, the newest revision: data.revision pins one"


def _corpus(corpus: PreparedCorpus, share: float, c: TrainConfig) -> str:
    label = f"{corpus.name}: " if corpus.name else ""
    if corpus.folder is None or not corpus.ready:
        when = "the run does it first, or"
        if c.data.start_early:
            when = f"the run begins after {_first_part(c)}, and a process beside it does the rest;"
        return f"{label}{corpus.folder or 'it'} is not prepared yet: {when} python -m train prepare"
    held = TokenFile(corpus.folder, "train").meta.train.tokens
    return f"{label}{held:,} prepared in {corpus.folder}: {share / held:,.2f} epochs"


def _first_part(c: TrainConfig) -> str:
    """Return what must be prepared before a run with data.start_early takes its first step."""
    tokens = BLOCK_ROWS * c.data.sequence_length
    if c.data.source == "c4" or c.data.validation_files:
        return f"the validation text and some {tokens:,} tokens"
    held_out = c.eval.tokens / c.data.validation_fraction
    return f"some {max(tokens, round(held_out)):,} tokens"
