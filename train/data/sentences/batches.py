"""Gives the batches of labelled sentences: which rows, filled to one length.

Batch k is a pure function of (seed, k).

Shapes: B rows of a global batch, M rows of a micro batch, L tokens of the longest of them.
"""

from __future__ import annotations

import numpy as np
import torch

from train.data.loading.micro_batch import MicroBatch
from train.data.loading.order import Int64s, rows_at
from train.data.sentences.arrays import Sentences

_MULTIPLE = 8  # of a row's filled length: few lengths in all, and whole tiles of a matrix


class SentenceBatches:
    """Batches of one set of sentences.

    Args:
        sentences: to train on.
        seed: of the order.
        global_batch: rows per optimizer step over all ranks, B.
        length: tokens that every row is filled to; 0 fills the rows of a micro batch alike.
        regression: labels are numbers, no classes.
    """

    def __init__(
        self, sentences: Sentences, seed: int, global_batch: int, length: int, regression: bool
    ) -> None:
        self._sentences = sentences
        self._seed = seed
        self._global_batch = global_batch
        self._length = length
        self._regression = regression

    def rows(self, k: int) -> Int64s:
        """Return the rows of batch k, int64 [B]; it may span epochs."""
        first = k * self._global_batch
        positions = np.arange(first, first + self._global_batch, dtype=np.int64)
        return rows_at(self._seed, positions, len(self._sentences))

    def tokens(self, k: int) -> int:
        """Return the tokens of batch k over all ranks, fill not counted."""
        return int(self._sentences.lengths(self.rows(k)).sum())

    def batch(self, k: int, rank: int, world_size: int, micro_batch: int) -> list[MicroBatch]:
        """Return this rank's share of batch k, one micro batch for each accumulation step."""
        shares = self.rows(k).reshape(-1, world_size, micro_batch)[:, rank]
        return [filled(self._sentences, rows, self._length, self._regression) for rows in shares]


def filled(sentences: Sentences, rows: Int64s, length: int, regression: bool) -> MicroBatch:
    """Return rows of one length with their labels.

    Args:
        rows: int64 [M].
        length: tokens of each; 0 takes those of the longest.

    Returns:
        "input_ids", "attention_mask" and, where there are types, "token_type_ids", int64 [M, L];
        labels int64 [M], or float32 [M] in a regression.
    """
    lengths = sentences.lengths(rows)
    whole = length or -(-int(lengths.max()) // _MULTIPLE) * _MULTIPLE
    tokens = np.full((len(rows), whole), sentences.pad_id, dtype=np.int64)
    mask = np.zeros_like(tokens)
    types = np.zeros_like(tokens)
    ends = sentences.ends[rows]
    for at, (end, count) in enumerate(zip(ends.tolist(), lengths.tolist(), strict=True)):
        tokens[at, :count] = sentences.tokens[end - count : end]
        mask[at, :count] = 1
        if sentences.types is not None:
            types[at, :count] = sentences.types[end - count : end]
    inputs = {"input_ids": torch.from_numpy(tokens), "attention_mask": torch.from_numpy(mask)}
    if sentences.types is not None:
        inputs["token_type_ids"] = torch.from_numpy(types)
    labels = torch.from_numpy(sentences.labels[rows])
    return MicroBatch(inputs, labels.float() if regression else labels.long(), 1.0)
