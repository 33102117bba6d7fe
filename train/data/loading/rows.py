"""Reads token files as rows of L tokens with labels, packed or padded.

Packed: documents are joined by eos and cut into windows that do not overlap; the last, incomplete
one is left out. Attention is plain causal attention over the window, so it sees over the borders of
documents, and the loss counts every token but a row's first, the first token of the next document
after an eos included.

Padded: a row is one document, its eos kept; a longer one keeps its first L - 1 tokens and eos. What
is left is filled with eos whose labels are -100. The fill stands on the right, where causal
attention never lets a real token see it: no mask is needed, and the loss is that of the real tokens
alone.

Shapes: n rows asked for, L tokens of a row, R rows of a token file.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from train.data.loading.memmap import TokenFile

IGNORED = -100  # label of a token that does not count
Int64s = npt.NDArray[np.int64]


class Labelled(NamedTuple):
    """Rows with their labels.

    Args:
        tokens: int64 [n, L].
        labels: int64 [n, L]; a label is its token, or -100 where there is nothing to predict. The
            very tensor of the tokens where every one is predicted; neither is written to.
    """

    tokens: Tensor
    labels: Tensor


class Rows(Protocol):
    """A token file seen as R rows of `sequence_length` tokens."""

    sequence_length: int

    def __len__(self) -> int:
        """Return R."""

    def real_tokens(self, rows: Int64s) -> Int64s:
        """Return each row's tokens that are text or eos, not fill: int64 [n], each in [2, L]."""

    def read(self, rows: Int64s) -> Labelled:
        """Return the rows of these numbers."""


def open_rows(
    token_file: TokenFile, sequence_length: int, form: Literal["packed", "padded"]
) -> Rows:
    """Open a token file in the form of data.rows.

    Raises:
        UserError: it has not one row.
    """
    if form == "packed":
        return PackedRows(token_file, sequence_length)
    return PaddedRows(token_file, sequence_length)


class PackedRows:
    """Windows over the joined documents.

    Raises:
        UserError: the file is shorter than one window.
    """

    def __init__(self, token_file: TokenFile, sequence_length: int) -> None:
        count = token_file.check_rows(sequence_length)
        self.sequence_length = sequence_length
        # A view; nothing is copied.
        self._windows = token_file.tokens[: count * sequence_length].reshape(count, sequence_length)

    def __len__(self) -> int:
        return len(self._windows)

    def real_tokens(self, rows: Int64s) -> Int64s:
        return np.full(len(rows), self.sequence_length, dtype=np.int64)

    def read(self, rows: Int64s) -> Labelled:
        tokens = torch.from_numpy(self._windows[rows].astype(np.int64))
        return Labelled(tokens, tokens)


class PaddedRows:
    """Rows of one document each.

    Raises:
        UserError: the file has no document.
    """

    def __init__(self, token_file: TokenFile, sequence_length: int) -> None:
        token_file.check_documents()
        self.sequence_length = sequence_length
        self._tokens = token_file.tokens
        self._ends = token_file.ends
        self._eos = token_file.meta.eos_id

    def __len__(self) -> int:
        return len(self._ends)

    def real_tokens(self, rows: Int64s) -> Int64s:
        starts, ends = self._bounds(rows)
        return np.minimum(ends - starts, self.sequence_length)

    def read(self, rows: Int64s) -> Labelled:
        starts, ends = self._bounds(rows)
        tokens = np.full((len(rows), self.sequence_length), self._eos, dtype=np.int64)
        labels = np.full_like(tokens, IGNORED)
        for row, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
            length = min(end - start, self.sequence_length)
            # The last token of a row is eos, which is there already.
            tokens[row, : length - 1] = self._tokens[start : start + length - 1]
            labels[row, :length] = tokens[row, :length]
        return Labelled(torch.from_numpy(tokens), torch.from_numpy(labels))

    def _bounds(self, rows: Int64s) -> tuple[Int64s, Int64s]:
        ends = self._ends[rows].astype(np.int64)
        starts = np.where(rows > 0, self._ends[np.maximum(rows - 1, 0)], 0).astype(np.int64)
        return starts, ends


def first_rows(rows: Rows, max_tokens: int) -> Labelled:
    """Return the first rows, the same whatever the world size.

    Args:
        rows: of the validation split.
        max_tokens: real tokens used, at most, but one row at least; 0 uses all.
    """
    return rows.read(np.arange(count_first_rows(rows, max_tokens), dtype=np.int64))


def count_first_rows(rows: Rows, max_tokens: int) -> int:
    """Return how many rows `first_rows` returns."""
    if not max_tokens:
        return len(rows)
    # A row has two real tokens at least, so no more rows than this can fit.
    every = np.arange(min(len(rows), max(1, max_tokens // 2)), dtype=np.int64)
    fitting = int(np.searchsorted(np.cumsum(rows.real_tokens(every)), max_tokens, side="right"))
    return max(1, fitting)
