"""Finds and opens the images of training and of validation, whatever their source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from train.config import DataConfig, ImagesConfig, ModelConfig
from train.data.images.catalogue import load
from train.data.images.image_set import ImageSet, check_classes, check_same_classes
from train.errors import UserError

KEYS = ("train", "validation")


def prepare_images(images: ImagesConfig, data: DataConfig, model: ModelConfig) -> Iterator[Path]:
    """Verify every image, and yield the files that remember them. One rank calls it.

    Raises:
        UserError: images that cannot be used.
    """
    if images.source == "folder":
        from train.data.images.folder import prepare_folder

        yield from (prepare_folder(key, images, data) for key in KEYS)
    elif images.source == "saved":
        from train.data.images.datasets_images import prepare_saved

        yield from (prepare_saved(key, images, data, model.num_labels) for key in KEYS)


def open_images(
    images: ImagesConfig, data: DataConfig, model: ModelConfig
) -> tuple[ImageSet, ImageSet]:
    """Open the images of training and of validation that `prepare_images` has verified.

    Raises:
        UserError: their classes are not the model's, or not the same.
    """
    training, validation = _open(images, data, model)
    check_same_classes(training, validation)
    check_classes("images.train", training.classes, model.num_labels)
    return training, validation


def _open(images: ImagesConfig, data: DataConfig, model: ModelConfig) -> tuple[ImageSet, ImageSet]:
    if images.source == "drawn":
        from train.data.images.drawn import DrawnImages

        return (
            DrawnImages(images.drawn_train, model.image_size),
            DrawnImages(images.drawn_validation, model.image_size, images.drawn_train),
        )
    if images.source == "folder":
        from train.data.images.folder import open_folder

        first, second = (open_folder(key, images, data) for key in KEYS)
        return first, second
    from train.data.images.datasets_images import open_saved

    saved = [open_saved(key, images, data, model.num_labels) for key in KEYS]
    return saved[0], saved[1]


def check_named(images: ImagesConfig) -> None:
    """Refuse folders that are not there. Nothing is read.

    Raises:
        UserError: names the setting.
    """
    if images.source == "drawn":
        return
    for key in KEYS:
        path = Path(getattr(images, key)).expanduser()
        if not getattr(images, key) or not path.is_dir():
            raise UserError(
                f"images.{key} is {getattr(images, key)!r}, which is no folder; set --images.{key}"
            )


def verified_files(images: ImagesConfig, data: DataConfig) -> list[Path]:
    """Return the files that remember the images of both sets, whether or not they are there."""
    if images.source == "drawn":
        return []
    if images.source == "folder":
        from train.data.images.folder import file_of

        return [file_of(Path(getattr(images, key)).expanduser(), data) for key in KEYS]
    from train.data.images.datasets_images import file_of_table

    return [file_of_table(key, images, data) for key in KEYS]


def are_verified(images: ImagesConfig, data: DataConfig) -> bool:
    """Return whether every image has been read once; those that came later are not looked for."""
    return all(file.is_file() for file in verified_files(images, data))


def images_verified(images: ImagesConfig, data: DataConfig) -> int:
    """Return how many images have been read so far."""
    return sum(len(load(file)) for file in verified_files(images, data) if file.is_file())
