"""Turns an image into what a model takes: cut at random for training, the centre for validation.

Shapes: S side of the model's square.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.config.images import ImagesConfig
from train.data.images.pillow import (
    OPERATIONS,
    Box,
    Image,
    cut_and_scale,
    mirror,
    scale_and_cut_centre,
    to_array,
)

Pixels = npt.NDArray[np.float32]

# Of ImageNet's training images, by colour; published models are trained with them.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
_RATIOS = (3 / 4, 4 / 3)  # width to height of a random crop
_ERASED_AREA = (0.02, 1 / 3)
_ERASED_RATIOS = (0.3, 1 / 0.3)
_TRIES = 10
_NAMES = tuple(OPERATIONS)
_OPERATION_PROBABILITY = 0.5  # published recipes do half of the operations that they draw


@dataclass(frozen=True)
class Transforms:
    """What is done to each image by itself.

    Args:
        config: of the images.
        side: of the model's square, S.
    """

    config: ImagesConfig
    side: int

    def for_training(self, image: Image, rng: np.random.Generator) -> Pixels:
        """Return the image changed at random, float32 [3, S, S]."""
        config = self.config
        if config.crop_scale < 1:
            box = random_box(image.width, image.height, config.crop_scale, rng)
            image = cut_and_scale(image, box, self.side)
        else:
            image = self._centre(image)
        if rng.random() < config.flip:
            image = mirror(image)
        pixels = normalised(self._rand_augment(image, rng))
        if rng.random() < config.erasing:
            erase(pixels, rng)
        return pixels

    def for_validation(self, image: Image) -> Pixels:
        """Return the centre of the image, float32 [3, S, S]."""
        return normalised(self._centre(image))

    def _centre(self, image: Image) -> Image:
        return scale_and_cut_centre(image, self.side, self.config.centre_crop)

    def _rand_augment(self, image: Image, rng: np.random.Generator) -> Image:
        """Do some operations, each of a strength and sign of its own (arXiv 1909.13719)."""
        for _ in range(self.config.rand_augment):
            name = _NAMES[rng.integers(len(_NAMES))]
            magnitude = rng.normal(self.config.magnitude, self.config.magnitude_sd)
            strength = min(10.0, max(0.0, magnitude)) / 10 * rng.choice((-1, 1))
            if rng.random() < _OPERATION_PROBABILITY:
                image = OPERATIONS[name](image, strength)
        return image


def normalised(image: Image) -> Pixels:
    """Return pixels with about zero mean and unit variance, float32 [3, height, width]."""
    mean, std = (np.array(values, dtype=np.float32)[:, None, None] for values in (MEAN, STD))
    pixels = to_array(image).astype(np.float32) / np.float32(255)
    return (pixels - mean) / std


def random_box(width: int, height: int, least: float, rng: np.random.Generator) -> Box:
    """Return a box of a random share of the area and a random ratio (arXiv 1409.4842).

    Where none fits after some tries it is the central one that comes nearest.

    Args:
        least: share of the area, at least.
    """
    for _ in range(_TRIES):
        area = width * height * rng.uniform(least, 1)
        ratio = _log_uniform(_RATIOS, rng)
        wide = round(math.sqrt(area * ratio))
        high = round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            left = int(rng.integers(width - wide + 1))
            top = int(rng.integers(height - high + 1))
            return left, top, left + wide, top + high
    wide = min(width, max(1, round(height * _RATIOS[1])))
    high = min(height, max(1, round(width / _RATIOS[0])))
    left = (width - wide) // 2
    top = (height - high) // 2
    return left, top, left + wide, top + high


def _log_uniform(limits: tuple[float, float], rng: np.random.Generator) -> float:
    low, high = limits
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def erase(pixels: Pixels, rng: np.random.Generator) -> None:
    """Put noise in place of a rectangle (arXiv 1708.04896); nothing where none fits."""
    _, height, width = pixels.shape
    for _ in range(_TRIES):
        area = height * width * rng.uniform(*_ERASED_AREA)
        ratio = _log_uniform(_ERASED_RATIOS, rng)
        high = round(math.sqrt(area * ratio))
        wide = round(math.sqrt(area / ratio))
        if 0 < high < height and 0 < wide < width:
            top = int(rng.integers(height - high + 1))
            left = int(rng.integers(width - wide + 1))
            noise = rng.standard_normal((3, high, wide), dtype=np.float32)
            pixels[:, top : top + high, left : left + wide] = noise
            return
