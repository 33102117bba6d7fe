"""Defines a set of images with a class each, wherever it lies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Protocol

from train.data.images.pillow import Image
from train.data.loading.order import Int64s
from train.errors import UserError


class ImageSet(Protocol):
    """Images by number.

    Attributes:
        classes: their names, by number.
        labels: the class of each image, int64.
        identity: of images, classes and order: changes when one of them does.
        bad: images that were set aside.
    """

    classes: tuple[str, ...]
    labels: Int64s
    identity: str
    bad: int

    def read(self, index: int) -> Image:
        """Return an image.

        Raises:
            UserError: it cannot be read any more.
        """


def identity_of(parts: Iterable[str]) -> str:
    """Return a digest of texts in their order."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()[:16]


def check_classes(key: str, classes: Sequence[str], num_labels: int) -> None:
    """Refuse a set that has another number of classes than the model.

    Args:
        key: of the setting that names the set.

    Raises:
        UserError: says how many there are.
    """
    if len(classes) != num_labels:
        raise UserError(
            f"{key} has {len(classes)} classes, and model.num_labels is {num_labels}; set "
            f"--model.num_labels {len(classes)}, or name another folder"
        )


def check_same_classes(training: ImageSet, validation: ImageSet) -> None:
    """Refuse a validation whose classes are not those of training.

    Raises:
        UserError: names a class that is missing in one of the two.
    """
    missing = [name for name in training.classes if name not in set(validation.classes)]
    extra = [name for name in validation.classes if name not in set(training.classes)]
    if missing or extra:
        name, here, there = (
            (missing[0], "images.train", "images.validation")
            if missing
            else (extra[0], "images.validation", "images.train")
        )
        count = len(missing or extra)
        more = f", and {count - 1} more" if count > 1 else ""
        raise UserError(
            f"class {name!r}{more} is in {here} and not in {there}; both need the same classes"
        )
