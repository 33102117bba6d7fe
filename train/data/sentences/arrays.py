"""The folder of prepared sentences: tokens end to end, where each row ends, and its label.

Of each split there are SPLIT.tokens.npy (int32), SPLIT.types.npy (uint8, where the model has
types), SPLIT.ends.npy (int64) and SPLIT.labels.npy (float64).

Shapes: n rows asked for, R rows of a split, T tokens of a split.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from train.errors import UserError

META = "sentences.json"
FORMAT = 1  # of the folder; another one is prepared anew

Int64s = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Meta:
    """What a prepared folder says of itself.

    Args:
        description: of the source.
        label_names: the classes; empty in a regression.
        pad_id: token that fills rows.
        rows: of each split.
        set_aside: rows that could not be used, by reason.
        full: rows as long as may be, where the text may go on.
        content: hex digest of tokens and labels.
        format: of the folder.
    """

    description: str
    label_names: tuple[str, ...]
    pad_id: int
    rows: Mapping[str, int]
    set_aside: Mapping[str, int]
    full: int
    content: str
    format: int = FORMAT

    def dump(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_meta(folder: Path) -> Meta:
    """Read what `Meta.dump` wrote.

    Raises:
        UserError: it is damaged.
    """
    try:
        values = json.loads((folder / META).read_text(encoding="utf-8"))
        return Meta(**{**values, "label_names": tuple(values["label_names"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder} is damaged ({type(error).__name__}: {error}); delete it, and the same "
            "command prepares it again"
        ) from error


@dataclass(frozen=True)
class Sentences:
    """The rows of a split.

    Args:
        tokens: int32 [T].
        types: uint8 [T]; None where the model has none.
        ends: where each row ends, int64 [R].
        labels: float64 [R].
        pad_id: token that fills rows.
    """

    tokens: npt.NDArray[np.int32]
    types: npt.NDArray[np.uint8] | None
    ends: Int64s
    labels: npt.NDArray[np.float64]
    pad_id: int

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def starts(self) -> Int64s:
        """Where each row begins, int64 [R]."""
        return np.concatenate([np.zeros(1, np.int64), self.ends[:-1]])

    def lengths(self, rows: Int64s) -> Int64s:
        """Return the tokens of rows, int64 [n]."""
        lengths: Int64s = (self.ends - self.starts)[rows]
        return lengths

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return its arrays by name."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "tokens": self.tokens,
            "ends": self.ends,
            "labels": self.labels,
        }
        return arrays | ({} if self.types is None else {"types": self.types})


def write_split(folder: Path, split: str, sentences: Sentences) -> None:
    """Write a split's arrays."""
    for name, array in sentences.arrays().items():
        np.save(folder / f"{split}.{name}.npy", array)


def open_split(folder: Path, split: str) -> Sentences:
    """Open a split; its tokens are mapped, not read.

    Raises:
        UserError: the folder is damaged.
    """
    pad_id = read_meta(folder).pad_id
    types = folder / f"{split}.types.npy"
    try:
        return Sentences(
            np.load(folder / f"{split}.tokens.npy", mmap_mode="r"),
            np.load(types, mmap_mode="r") if types.is_file() else None,
            np.load(folder / f"{split}.ends.npy"),
            np.load(folder / f"{split}.labels.npy"),
            pad_id,
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"{folder} is damaged ({error}); delete it, and the same command prepares it again"
        ) from error


def content_of(splits: Mapping[str, Sentences]) -> str:
    """Return a digest of tokens and labels, the same wherever and whenever they were prepared."""
    digest = hashlib.sha256()
    for split, sentences in splits.items():
        for name, array in sentences.arrays().items():
            digest.update(f"{split} {name} {len(array)}\0".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
