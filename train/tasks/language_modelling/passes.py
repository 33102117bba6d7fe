"""Tells how often a run reads its text."""

from __future__ import annotations

from train.config import TrainConfig
from train.data.loading.memmap import read_meta
from train.data.preparing.corpora import find_all


def passes_over_text(config: TrainConfig) -> float | None:
    """Return how often the text is read, at least 1: the mean over the tokens of a run that reads
    its sources unequally often. None while some of it is not prepared.

    Raises:
        UserError: a prepared folder is damaged.
    """
    corpora = find_all(config.data, config.model.vocab_size)
    weights = [source.weight for source in config.data.mixture] or [1.0]
    passes = 0.0
    for corpus, weight in zip(corpora, weights, strict=True):
        if corpus.folder is None or not corpus.ready:
            return None
        share = weight / sum(weights)
        read = share * config.positions_of_run
        passes += share * read / read_meta(corpus.folder).train.tokens
    return max(1.0, passes)
