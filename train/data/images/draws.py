"""Draws what is random in a row: the same for a seed and a position, whoever reads the row."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from train.data.loading.order import MASK_64


class Purpose(IntEnum):
    """What is drawn for; each has a stream of its own."""

    TRANSFORM = 0  # of one row
    BLEND = 1  # of a pair of rows
    DRAWING = 2  # of an image that the program makes


def generator(seed: int, position: int, purpose: Purpose) -> np.random.Generator:
    """Return the stream of a position.

    Args:
        seed: of the order of the data.
        position: of a row in the endless reading, or of a pair or an image.
        purpose: what is drawn.
    """
    key = np.array([seed & MASK_64, position], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, int(purpose)]))
