"""Encodes a chunk of rows into tokens, documents and set-aside rows.

This is a worker's job, and a function of the chunk and the plan alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from train.data.loading.memmap import DTYPES, ENDS_DTYPE, SPLITS, Split
from train.data.sources.chunks import Chunk, row_text
from train.data.tokenizers.ids import Ids
from train.data.tokenizers.load import AnyTokenizer

NO_TOKENS = "text has no tokens"
SPECIAL_PIECE = "text has a special piece of the tokenizer"


@dataclass(frozen=True)
class Plan:
    """Everything that decides the tokens of a source, but its rows.

    Args:
        split: where its documents go.
        held_out: share of them that goes to validation instead.
        dtype: uint16 or uint32.
    """

    split: Split
    held_out: float
    dtype: str


@dataclass
class Piece:
    """What a chunk adds to one split.

    Args:
        tokens: token ids with eos, as they go to disk.
        lengths: length of every document in tokens, as ENDS_DTYPE.
        bytes: bytes of UTF-8 text.
    """

    tokens: bytes = b""
    lengths: bytes = b""
    bytes: int = 0

    @property
    def documents(self) -> int:
        """Number of documents."""
        return len(self.lengths) // ENDS_DTYPE.itemsize


@dataclass
class Encoded:
    """The result of encoding a chunk.

    Args:
        rows: rows of it that were used up.
        bad: number in the chunk (1-based), file, line and reason of every row that was set aside,
            in order.
        pieces: by split.
    """

    rows: int = 0
    bad: list[tuple[int, str, int, str]] = field(default_factory=list)
    pieces: dict[Split, Piece] = field(default_factory=dict)

    @property
    def documents(self) -> int:
        """Number of documents in all splits."""
        return sum(piece.documents for piece in self.pieces.values())

    def documents_of(self, split: Split) -> int:
        """Return the number of documents in one split."""
        return self.pieces[split].documents if split in self.pieces else 0


def is_held_out(first: bool, text: str, fraction: float) -> bool:
    """Return whether a document belongs to validation.

    Its text alone decides, so that copies of one document never fall on both sides.

    Args:
        first: whether it is the first of its source; that is always held out, so that there is at
            least one.
        text: the document.
        fraction: share to hold out.
    """
    if first:
        return True
    digest = hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
    return int.from_bytes(digest, "little") < fraction * 2**64


def encode_chunk(
    chunk: Chunk, tokenizer: AnyTokenizer, plan: Plan, first: bool = False, limit: int = 0
) -> Encoded:
    """Encode a chunk.

    Args:
        first: whether no document of the source came before it.
        limit: stop right after this many documents of plan.split; 0 takes all.
    """
    result = Encoded(rows=len(chunk.rows))
    texts = []
    numbers = []
    for number, (file, line, content) in enumerate(chunk.rows, start=1):
        try:
            texts.append(row_text(chunk.form, content))
            numbers.append(number)
        except ValueError as error:
            result.bad.append((number, file, line, str(error)))
    arrays = tokenizer.encode_arrays(texts)
    special = _with_special(arrays, tokenizer)
    pieces = {split: _Joined(plan.dtype, tokenizer.eos_id) for split in SPLITS}
    for at, (number, text, ids) in enumerate(zip(numbers, texts, arrays, strict=True)):
        if not len(ids) or at in special:
            # A tokenizer that squeezes blanks can leave nothing of some exotic ones.
            reason = SPECIAL_PIECE if len(ids) else NO_TOKENS
            result.bad.append((number, *chunk.rows[number - 1][:2], reason))
            continue
        held_out = plan.held_out > 0 and is_held_out(first, text, plan.held_out)
        split: Split = "validation" if held_out else plan.split
        first = False
        pieces[split].add(ids, text)
        if limit and len(pieces[plan.split].lengths) == limit:
            result.rows = number
            break
    result.bad = sorted(bad for bad in result.bad if bad[0] <= result.rows)
    result.pieces = {split: joined.piece() for split, joined in pieces.items() if joined.lengths}
    return result


def _with_special(arrays: list[Ids], tokenizer: AnyTokenizer) -> set[int]:
    """Return the places of the texts that have an id which no text may have."""
    special = np.zeros(tokenizer.size, dtype=bool)
    special[list(tokenizer.special_ids)] = True
    if not arrays or not special[np.concatenate(arrays)].any():
        return set()
    return {at for at, ids in enumerate(arrays) if special[ids].any()}


class _Joined:
    """The documents of one split, one after the other."""

    def __init__(self, dtype: str, eos_id: int) -> None:
        self.lengths: list[int] = []
        self._dtype = DTYPES[dtype]
        self._eos = np.array([eos_id], dtype=self._dtype)
        self._parts: list[npt.NDArray[Any]] = []
        self._bytes = 0

    def add(self, ids: Ids, text: str) -> None:
        self._parts += [ids.astype(self._dtype), self._eos]
        self.lengths.append(len(ids) + 1)
        self._bytes += len(text) if text.isascii() else len(text.encode("utf-8"))

    def piece(self) -> Piece:
        lengths = np.array(self.lengths, dtype=ENDS_DTYPE)
        return Piece(np.concatenate(self._parts).tobytes(), lengths.tobytes(), self._bytes)
