"""Blends the images of a pair of rows, or puts a part of one into the other, and their labels.

Row p of the endless reading is paired with row p ^ 1, 0 with 1, 2 with 3. So the pairs are the same
for any number of ranks and any micro batch, and where that is even both rows of a pair are in one.

Shapes: S side of an image, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from train.config.images import ImagesConfig
from train.data.images.draws import Purpose, generator
from train.data.images.pillow import Box
from train.data.images.transforms import Pixels

_CUTMIX_PROBABILITY = 0.5  # where a pair may have either


def blends(config: ImagesConfig) -> bool:
    """Return whether rows are paired at all."""
    return config.mixup > 0 or config.cutmix > 0


def partner(position: int) -> int:
    """Return the position of the other row of a pair."""
    return position ^ 1


@dataclass(frozen=True)
class Blend:
    """How the rows of a pair are put together.

    Args:
        share: of a row's own image, and of its label.
        box: which the other image takes; None where the two are blended all over.
    """

    share: float
    box: Box | None = None

    def image(self, own: Pixels, other: Pixels) -> Pixels:
        """Return what a row becomes, float32 [3, S, S]."""
        if self.box is None:
            share = np.float32(self.share)
            blended: Pixels = own * share + other * (1 - share)
            return blended
        left, top, right, bottom = self.box
        blended = own.copy()
        blended[:, top:bottom, left:right] = other[:, top:bottom, left:right]
        return blended

    def label(self, own: int, other: int, classes: int, smoothing: float) -> Pixels:
        """Return the probability of each class, float32 [C].

        Args:
            smoothing: share of a label that is spread over all classes.
        """
        target = self.share * smoothed(own, classes, smoothing)
        target += (1 - self.share) * smoothed(other, classes, smoothing)
        return target.astype(np.float32)


def smoothed(label: int, classes: int, smoothing: float) -> npt.NDArray[np.float64]:
    """Return a label as probabilities, float64 [C] (arXiv 1512.00567)."""
    target = np.full(classes, smoothing / classes)
    target[label] += 1 - smoothing
    return target


def blend_of(seed: int, position: int, config: ImagesConfig, side: int) -> Blend:
    """Draw how a row and its partner are put together; alike for both.

    Args:
        seed: of the order of the data.
        position: of either row.
        config: says which of the two there are.
        side: of the images, S.
    """
    rng = generator(seed, min(position, partner(position)), Purpose.BLEND)
    cuts = config.cutmix > 0
    if cuts and config.mixup > 0:
        cuts = bool(rng.random() < _CUTMIX_PROBABILITY)
    alpha = config.cutmix if cuts else config.mixup
    share = float(rng.beta(alpha, alpha))
    if not cuts:
        return Blend(share)
    box = _random_box(side, 1 - share, rng)
    left, top, right, bottom = box
    return Blend(1 - (right - left) * (bottom - top) / side**2, box)


def _random_box(side: int, area: float, rng: np.random.Generator) -> Box:
    """Return a square of a share of the image around a random point, cut at the borders."""
    half = int(side * math.sqrt(area)) // 2
    x, y = (int(centre) for centre in rng.integers(side, size=2))
    return max(0, x - half), max(0, y - half), min(side, x + half), min(side, y + half)
