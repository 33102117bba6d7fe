"""An image set of `datasets`: a folder that save_to_disk wrote, or one of parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from train.config import DataConfig, ImagesConfig
from train.data.images.catalogue import Entry, Found, Stamp, good_ones, load, verified
from train.data.images.image_set import identity_of
from train.data.images.pillow import Image, read_image
from train.errors import UserError

_DIGITS = 9  # of a row's name, so that names sort as numbers
# What the names of files and sets begin with where both lie in one folder.
_SPLITS = {"train": ("train",), "validation": ("val", "dev")}


class SavedImages:
    """The rows of a table that can be read, in their order.

    Args:
        table: with the undecoded images.
        classes: their names.
        entries: of the rows that can be read; names are row numbers.
        column: of the images.
        labels: the class of every row of the table.
        bad: rows that cannot be read.
    """

    def __init__(
        self,
        table: Any,
        classes: tuple[str, ...],
        entries: list[Entry],
        column: str,
        labels: list[int],
        bad: int,
    ) -> None:
        self._table = table
        self._column = column
        self._rows = [int(entry.name) for entry in entries]
        self.classes = classes
        self.labels = np.array([labels[row] for row in self._rows], dtype=np.int64)
        pairs = zip(entries, self.labels.tolist(), strict=True)
        parts = (part for entry, label in pairs for part in (entry.digest, str(label)))
        self.identity = identity_of(parts)
        self.bad = bad

    def read(self, index: int) -> Image:
        """Return an image.

        Raises:
            UserError: it is not what it was.
        """
        row = self._rows[index]
        try:
            return read_image(_content(self._table, self._column, row))
        except (OSError, ValueError) as error:
            raise UserError(
                f"row {row} of the images was read before the training and cannot be now: {error}"
            ) from error


def prepare_saved(key: str, images: ImagesConfig, data: DataConfig, num_labels: int) -> Path:
    """Verify the images of a table, and return the file that remembers them.

    Args:
        key: train or validation.
        num_labels: classes of the model.

    Raises:
        UserError: no such table, columns of other names, a label out of range, or too many images
            that cannot be read.
    """
    table, title = _open(key, images)
    _labels(key, table, images, num_labels)
    file = _file(table, data)
    stamps = {f"{row:0{_DIGITS}}": Stamp(0, 0) for row in range(len(table))}
    column = images.image_column
    found = Found(title, stamps, lambda name: _content(table, column, int(name)))
    entries = verified(found, file, images.workers)
    if not good_ones(entries, title, images.max_bad_fraction, "images.max_bad_fraction"):
        raise UserError(f"{title} has no image that can be read")
    return file


def file_of_table(key: str, images: ImagesConfig, data: DataConfig) -> Path:
    """Return the file that remembers the images of a table."""
    return _file(_open(key, images)[0], data)


def open_saved(key: str, images: ImagesConfig, data: DataConfig, num_labels: int) -> SavedImages:
    """Open a table that `prepare_saved` has verified, by what it remembers."""
    table, _ = _open(key, images)
    labels = _labels(key, table, images, num_labels)
    entries = load(_file(table, data))
    good = [entry for entry in entries if not entry.fault]
    classes = _class_names(table, images.label_column, num_labels)
    bad = len(entries) - len(good)
    return SavedImages(table, classes, good, images.image_column, labels, bad)


def _open(key: str, images: ImagesConfig) -> tuple[Any, str]:
    """Return the table with undecoded images, and its name for a person."""
    import datasets

    text = str(getattr(images, key))
    folder = Path(text).expanduser()
    if not text or not folder.is_dir():
        raise UserError(
            f"images.{key} is {text!r}, which is no folder; name one that save_to_disk wrote, or "
            "one of parquet files"
        )
    title = f"images.{key} {folder}"
    table = _table(key, folder, title)
    if images.train == images.validation and not _has_own(key, folder):
        raise UserError(f"{title} is the other set's folder too, and nothing in it is for {key}")
    for column, name in (("image", images.image_column), ("label", images.label_column)):
        if name not in table.column_names:
            raise UserError(
                f"{title} has no column {name!r}, but {', '.join(table.column_names)}; set "
                f"--images.{column}_column"
            )
    undecoded = datasets.Image(decode=False)
    try:
        return table.cast_column(images.image_column, undecoded), title
    except (TypeError, ValueError) as error:
        raise UserError(f"{title}: column {images.image_column!r} has no images") from error


def _table(key: str, folder: Path, title: str) -> Any:
    """Return the one set that a folder holds, or of several the one that its name says is meant."""
    import datasets

    parquet = sorted(folder.rglob("*.parquet"))
    own = [path for path in parquet if path.name.startswith(_SPLITS[key])]
    files = [str(path) for path in own or parquet]
    try:
        if files:
            table = datasets.load_dataset("parquet", data_files=files, split="train")
        else:
            table = datasets.load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise UserError(f"{title} is no image set of `datasets`: {error}") from error
    if not isinstance(table, datasets.Dataset):
        split = next((name for name in table if name.startswith(_SPLITS[key])), None)
        if split is None:
            raise UserError(
                f"{title} holds several sets, {', '.join(sorted(table))}, and none of them is for "
                f"{key}; name the folder of one"
            )
        table = table[split]
    return table


def _has_own(key: str, folder: Path) -> bool:
    """Return whether files or a folder of a split's name are there."""
    splits = (path for path in folder.iterdir() if path.is_dir())
    names = (path.name for path in (*folder.rglob("*.parquet"), *splits))
    return any(name.startswith(_SPLITS[key]) for name in names)


def _labels(key: str, table: Any, images: ImagesConfig, num_labels: int) -> list[int]:
    labels = list(table[images.label_column])
    for row, label in enumerate(labels):
        if not isinstance(label, int) or not 0 <= label < num_labels:
            raise UserError(
                f"images.{key}: row {row} has the label {label!r}; classes are numbered from 0 to "
                f"{num_labels - 1} (model.num_labels = {num_labels})"
            )
    return labels


def _class_names(table: Any, column: str, num_labels: int) -> tuple[str, ...]:
    names = getattr(table.features[column], "names", None)
    return tuple(names or map(str, range(num_labels)))


def _content(table: Any, column: str, row: int) -> bytes:
    """Return the bytes of an undecoded image.

    Raises:
        OSError: its file cannot be read.
        ValueError: there is none.
    """
    cell = table[row][column]
    if cell is None:
        raise ValueError("no image")
    if cell["bytes"] is not None:
        return bytes(cell["bytes"])
    return Path(cell["path"]).read_bytes()


def _file(table: Any, data: DataConfig) -> Path:
    return Path(data.directory).expanduser() / f"images-{table._fingerprint}.jsonl"
