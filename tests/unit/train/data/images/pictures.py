"""Small image files of chance colours, in folders of classes."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np

from train.config import DataConfig, ImagesConfig
from train.data.images.pillow import Image, from_array

CLASSES = ("ant", "bee", "cat")


def picture(seed: int, width: int = 24, height: int = 20) -> Image:
    pixels = np.random.default_rng(seed).integers(256, size=(height, width, 3), dtype=np.uint8)
    return from_array(pixels)


def encoded(image: Image, form: str = "PNG") -> bytes:
    file = BytesIO()
    image.save(file, form)
    return file.getvalue()


def write_images(root: Path, classes: tuple[str, ...] = CLASSES, each: int = 4) -> Path:
    """Write some images of each class; one of each is a JPEG."""
    for number, name in enumerate(classes):
        folder = root / name
        folder.mkdir(parents=True)
        for index in range(each):
            form, suffix = ("JPEG", "JPEG") if index == 0 else ("PNG", "png")
            content = encoded(picture(each * number + index), form)
            (folder / f"{name}_{index}.{suffix}").write_bytes(content)
    return root


def settings(folder: Path, **more: object) -> tuple[ImagesConfig, DataConfig]:
    """Name folder/train and folder/val, and keep what is found beside them."""
    images = ImagesConfig(
        source="folder",
        train=str(folder / "train"),
        validation=str(folder / "val"),
        **more,  # type: ignore[arg-type]
    )
    return images, DataConfig(directory=str(folder / "prepared"))
