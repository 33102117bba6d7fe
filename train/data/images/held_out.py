"""Reads the images of a validation, batch by batch, the next while one is in use.

Shapes: M rows of a batch, S side of an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from train.data.images.image_set import ImageSet
from train.data.images.transforms import Pixels, Transforms
from train.data.loading.order import Int64s

Pairs = tuple[Tensor, Tensor]


def read_in_turn(
    images: ImageSet, transforms: Transforms, batches: list[Int64s], pool: ThreadPoolExecutor
) -> Iterator[Pairs]:
    """Yield the centres of the images, float32 [M, 3, S, S], and their labels, int64 [M].

    Args:
        batches: the numbers of the images of each batch, [M].
        pool: threads that read.
    """

    def begin(batch: Int64s) -> list[Future[Pixels]]:
        return [pool.submit(_centre, images, transforms, int(index)) for index in batch]

    reading = begin(batches[0]) if batches else []
    for number, batch in enumerate(batches):
        pixels = torch.from_numpy(np.stack([future.result() for future in reading]))
        reading = begin(batches[number + 1]) if number + 1 < len(batches) else []
        yield pixels, torch.from_numpy(images.labels[batch])


def _centre(images: ImageSet, transforms: Transforms, index: int) -> Pixels:
    return transforms.for_validation(images.read(index))
