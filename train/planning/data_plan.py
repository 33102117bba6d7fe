"""Tells how many tokens a run reads, and how often it reads what is prepared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from train.config import DataConfig, TrainConfig
from train.data.loading.memmap import TokenFile
from train.data.preparing.corpora import PreparedCorpus


def tokens_of(c: TrainConfig) -> int:
    """Return the tokens that all steps read."""
    return c.run.steps * c.run.global_batch * c.data.sequence_length


def data_lines(c: TrainConfig, prepared: Sequence[PreparedCorpus]) -> Iterator[str]:
    """Yield the tokens of the run, and the epochs of each corpus."""
    tokens = tokens_of(c)
    yield (
        f"Tokens {tokens:,}: {c.run.steps:,} steps of {c.run.global_batch} rows of "
        f"{c.data.sequence_length}"
    )
    if c.data.source == "c4" and not c.data.mixture:
        yield "  " + _hub(c.data)
    weights = [source.weight for source in c.data.mixture] or [1.0]
    for corpus, weight in zip(prepared, weights, strict=False):
        yield "  " + _corpus(corpus, tokens * weight / sum(weights))


def _hub(data: DataConfig) -> str:
    if Path(data.repository).expanduser().is_dir():
        return f"from the copy of allenai/c4 in {data.repository}"
    if data.revision:
        return f"from {data.repository} at revision {data.revision}"
    return f"from {data.repository}, the newest revision: data.revision pins one"


def _corpus(corpus: PreparedCorpus, share: float) -> str:
    label = f"{corpus.name}: " if corpus.name else ""
    if corpus.folder is None or not corpus.ready:
        return (
            f"{label}{corpus.folder or 'it'} is not prepared yet: the run does it first, or "
            "python -m train prepare"
        )
    held = TokenFile(corpus.folder, "train").meta.train.tokens
    return f"{label}{held:,} prepared in {corpus.folder}: {share / held:,.2f} epochs"
