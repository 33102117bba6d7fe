"""Reads a prepared corpus: a folder of token files, meta.json and the tokenizer.

The folder is complete or not there at all. train.bin and validation.bin are plain arrays of token
ids, uint16 where the vocabulary allows it, else uint32, in little-endian order. Every document is
its tokens, at least one, followed by eos. train.ends and validation.ends are arrays of uint64, one
number a document: where it ends in the .bin file, in tokens.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from train.errors import UserError
from train.system.files import sha256_of

FORMAT_VERSION = 2
META_NAME = "meta.json"
QUARANTINE_NAME = "quarantine.jsonl"
Split = Literal["train", "validation"]
SPLITS: tuple[Split, Split] = ("train", "validation")
DTYPES: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
ENDS_DTYPE = np.dtype("<u8")


@dataclass
class SplitCounts:
    """Size of one split: documents, tokens (eos included) and bytes of UTF-8 text."""

    documents: int = 0
    tokens: int = 0
    bytes: int = 0


@dataclass
class Meta:
    """Everything about a prepared folder but its tokens.

    Args:
        format_version: of this layout.
        dtype: uint16 or uint32.
        vocab_size: pieces of the tokenizer.
        eos_id: id at the end of every document.
        tokenizer_sha256: hex digest of tokenizer.model.
        source: what was prepared, for people.
        fingerprint: of everything that decides the tokens; the end of the folder's name.
        rows: rows read from the sources.
        rows_set_aside: of these, the unusable ones.
        set_aside: the same by reason.
        train: counts.
        validation: counts.
        hashes: sha256 of every token file, by name; empty in folders of earlier versions.
        inputs: what it was made of, by content; empty where that is not known.
    """

    format_version: int
    dtype: str
    vocab_size: int
    eos_id: int
    tokenizer_sha256: str
    source: str
    fingerprint: str
    rows: int = 0
    rows_set_aside: int = 0
    set_aside: dict[str, int] = field(default_factory=dict)
    train: SplitCounts = field(default_factory=SplitCounts)
    validation: SplitCounts = field(default_factory=SplitCounts)
    hashes: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, Any] = field(default_factory=dict)

    def split(self, name: Split) -> SplitCounts:
        """Return the counts of one split."""
        return self.train if name == "train" else self.validation


def hash_token_files(folder: Path) -> dict[str, str]:
    """Return the sha256 of every token file, by name. Reads them all."""
    names = [f"{split}.{kind}" for split in SPLITS for kind in ("bin", "ends")]
    with ThreadPoolExecutor(len(names)) as pool:
        return dict(zip(names, pool.map(lambda name: sha256_of(folder / name), names), strict=True))


def content_name(folder: Path, hashed: bool = True) -> str:
    """Return 16 hex digits of a prepared folder's own tokens and their documents.

    Args:
        hashed: read the files of a folder that does not know their hashes; without, its
            fingerprint is returned, which has 12.
    """
    meta = read_meta(folder)
    if not meta.hashes and not hashed:
        return meta.fingerprint
    facts = [meta.dtype, meta.eos_id, meta.hashes or hash_token_files(folder)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def dtype_name(vocab_size: int) -> str:
    """Return the smaller of the two types that hold every id of the vocabulary."""
    return "uint16" if vocab_size < 65536 else "uint32"


def read_meta(folder: str | Path) -> Meta:
    """Read meta.json.

    Raises:
        UserError: it is missing, broken or of another format.
    """
    path = Path(folder) / META_NAME
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if values["format_version"] != FORMAT_VERSION:
            raise UserError(
                f"{path} is of format {values['format_version']}, this program reads "
                f"{FORMAT_VERSION}; delete {folder} and prepare again."
            )
        meta = Meta(
            **{
                **values,
                "train": SplitCounts(**values["train"]),
                "validation": SplitCounts(**values["validation"]),
            }
        )
        DTYPES[meta.dtype]
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} is not a prepared corpus: it has no {META_NAME}; delete it and prepare "
            "again."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}); delete {folder} and prepare again."
        ) from error
    return meta


class TokenFile:
    """One split of a prepared folder, read in place.

    Args:
        folder: the prepared folder.
        split: train or validation.
        meta: of a folder that is still being filled: its files have at least what it counts, and
            no more of them is read. None reads the folder's own, which the files must match.

    Attributes:
        tokens: unsigned integers [tokens], a read-only memory map.
        ends: uint64 [documents], the end of every document in tokens, a read-only memory map.
        meta: of the folder.

    Raises:
        UserError: the file is missing or is not as long as it should be.
    """

    def __init__(self, folder: str | Path, split: Split, meta: Meta | None = None) -> None:
        self.path = Path(folder) / f"{split}.bin"
        self.split: Split = split
        self.meta = read_meta(folder) if meta is None else meta
        counts = self.meta.split(split)
        grows = meta is not None
        self.tokens: npt.NDArray[np.unsignedinteger] = _mapped(
            self.path, DTYPES[self.meta.dtype], counts.tokens, grows
        )
        self.ends: npt.NDArray[np.uint64] = _mapped(
            self.path.with_suffix(".ends"), ENDS_DTYPE, counts.documents, grows
        )

    def __len__(self) -> int:
        return len(self.tokens)

    def check_documents(self) -> int:
        """Return the number of documents.

        Raises:
            UserError: there is none.
        """
        if not len(self.ends):
            raise UserError(
                f"The {self.split} split has no document: give more text, change "
                "data.validation_fraction, or name files in data.validation_files."
            )
        return len(self.ends)

    def check_rows(self, sequence_length: int) -> int:
        """Return the number of whole rows.

        Raises:
            UserError: there is none.
        """
        count = len(self.tokens) // sequence_length
        if count == 0:
            change = "raise" if self.split == "validation" else "lower"
            raise UserError(
                f"The {self.split} split has {len(self.tokens)} tokens in {len(self.ends)} "
                f"documents, fewer than one row of data.sequence_length {sequence_length}: give "
                f"more text, {change} data.validation_fraction, name files in "
                "data.validation_files, or lower data.sequence_length."
            )
        return count


def _mapped(path: Path, dtype: np.dtype[Any], count: int, grows: bool) -> npt.NDArray[Any]:
    if not path.is_file():
        raise UserError(f"{path} is missing; delete {path.parent} and prepare again.")
    size = path.stat().st_size
    expected = count * dtype.itemsize
    if size < expected or (size > expected and not grows):
        raise UserError(
            f"{path} has {size} bytes but {META_NAME} says {expected}: it is truncated or belongs "
            f"to another preparation; delete {path.parent} and prepare again."
        )
    # NumPy cannot map a file of no bytes.
    return np.memmap(path, dtype, mode="r", shape=(count,)) if count else np.empty(0, dtype)
