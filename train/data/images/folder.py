"""A folder of images for each class, as ImageNet is unpacked: CLASS/NAME.JPEG."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from train.config import DataConfig, ImagesConfig
from train.data.images.catalogue import Entry, Found, Stamp, good_ones, load, verified
from train.data.images.image_set import identity_of
from train.data.images.pillow import Image, read_image
from train.errors import UserError

_SUFFIXES = frozenset({".jpeg", ".jpg", ".png", ".bmp", ".webp", ".gif", ".ppm"})


class ImageFolder:
    """The images of a folder that can be read, in the order of their names.

    Args:
        root: holds a folder for each class.
        classes: their names, sorted.
        entries: of the images that can be read; names are CLASS/NAME.
        bad: images that cannot.
    """

    def __init__(
        self, root: Path, classes: Sequence[str], entries: Sequence[Entry], bad: int
    ) -> None:
        self._root = root
        self._names = [entry.name for entry in entries]
        self.classes = tuple(classes)
        numbers = {name: number for number, name in enumerate(classes)}
        self.labels = np.array(
            [numbers[name.partition("/")[0]] for name in self._names], dtype=np.int64
        )
        parts = (part for entry in entries for part in (entry.name, entry.digest))
        self.identity = identity_of(parts)
        self.bad = bad

    def read(self, index: int) -> Image:
        """Return an image.

        Raises:
            UserError: it is not there any more, or not what it was.
        """
        path = self._root / self._names[index]
        try:
            return read_image(path.read_bytes())
        except (OSError, ValueError) as error:
            raise UserError(
                f"{path} was read before the training and cannot be now: {error}; the same "
                "command goes on from the last checkpoint once it is there again"
            ) from error


def prepare_folder(key: str, images: ImagesConfig, data: DataConfig) -> Path:
    """Verify the images of a folder, and return the file that remembers them.

    Args:
        key: train or validation.

    Raises:
        UserError: no such folder, no classes, no images, or too many that cannot be read.
    """
    root = _root(key, images)
    stamps = dict(_stamps(root, _class_folders(key, root)))
    file = file_of(root, data)
    title = f"images.{key} {root}"
    found = Found(title, stamps, lambda name: (root / name).read_bytes())
    entries = verified(found, file, images.workers)
    good = good_ones(entries, title, images.max_bad_fraction, "images.max_bad_fraction")
    _check_none_empty(key, root, good)
    return file


def open_folder(key: str, images: ImagesConfig, data: DataConfig) -> ImageFolder:
    """Open a folder that `prepare_folder` has verified, by what it remembers."""
    root = _root(key, images)
    entries = load(file_of(root, data))
    good = [entry for entry in entries if not entry.fault]
    classes = sorted({entry.name.partition("/")[0] for entry in entries})
    return ImageFolder(root, classes, good, len(entries) - len(good))


def _root(key: str, images: ImagesConfig) -> Path:
    text = str(getattr(images, key))
    if not text:
        raise UserError(
            f"images.{key} names no folder; set --images.{key} to a folder of CLASS/NAME.JPEG"
        )
    return Path(text).expanduser()


def file_of(root: Path, data: DataConfig) -> Path:
    """Return the file that remembers the images of a folder."""
    digest = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    return Path(data.directory).expanduser() / f"images-{digest}.jsonl"


def _class_folders(key: str, root: Path) -> list[str]:
    if not root.is_dir():
        raise UserError(f"images.{key} is {root}, which is no folder")
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    if not classes:
        raise UserError(
            f"images.{key} is {root}, which holds no folder of a class; it must hold "
            "CLASS/NAME.JPEG"
        )
    return classes


def _stamps(root: Path, classes: Sequence[str]) -> Iterator[tuple[str, Stamp]]:
    for name in classes:
        for entry in os.scandir(root / name):
            if Path(entry.name).suffix.lower() in _SUFFIXES and entry.is_file():
                facts = entry.stat()
                yield f"{name}/{entry.name}", Stamp(facts.st_size, facts.st_mtime_ns)


def _check_none_empty(key: str, root: Path, good: Sequence[Entry]) -> None:
    filled = {entry.name.partition("/")[0] for entry in good}
    empty = [name for name in _class_folders(key, root) if name not in filled]
    if empty:
        more = f", and {len(empty) - 1} more" if len(empty) > 1 else ""
        raise UserError(
            f"images.{key}: {root / empty[0]}{more} holds no image that can be read "
            f"({', '.join(sorted(_SUFFIXES))}); fill or remove it"
        )
