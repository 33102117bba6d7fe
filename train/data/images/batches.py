"""Reads the rows of batch k: images changed at random, blended in pairs, with their targets.

Batch k is a function of the seed and k alone: so is which images it has, and all that is drawn for
them.

Shapes: B rows of a global batch, M rows of a micro batch, S side of an image, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from train.config.images import ImagesConfig
from train.data.images.blending import blend_of, blends, partner, smoothed
from train.data.images.draws import Purpose, generator
from train.data.images.image_set import ImageSet
from train.data.images.transforms import Pixels, Transforms
from train.data.loading.micro_batch import MicroBatch
from train.data.loading.order import Int64s, rows_at


class ImageBatches:
    """The batches of a run.

    Args:
        images: of training.
        config: what is done to them.
        side: of the model's square, S.
        seed: of the order of the data, and of what is drawn for a row.
        global_batch: rows per optimizer step over all ranks, B.
        positions: of a row, as the model attends over them.
        pool: threads that read images.
    """

    def __init__(
        self,
        images: ImageSet,
        config: ImagesConfig,
        side: int,
        seed: int,
        global_batch: int,
        positions: int,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._images = images
        self._config = config
        self._side = side
        self._transforms = Transforms(config, side)
        self._seed = seed
        self._global_batch = global_batch
        self._positions = positions
        self._pool = pool

    def tokens(self, k: int) -> int:
        """Return the positions of batch k over all ranks."""
        return self._global_batch * self._positions

    def rows(self, positions: Int64s) -> Int64s:
        """Return the image at each position of an endless reading."""
        return rows_at(self._seed, positions, len(self._images.labels))

    def batch(self, k: int, rank: int, world_size: int, micro_batch: int) -> list[MicroBatch]:
        """Return this rank's share of batch k, one micro batch for each accumulation step.

        "pixel_values" is float32 [M, 3, S, S]; targets are probabilities, float32 [M, C].

        Args:
            k: number of the batch, 0-based.
            rank: in [0, world_size).
            world_size: ranks that share the batch.
            micro_batch: rows per rank and forward pass, M.
        """
        first = k * self._global_batch
        of_all = np.arange(first, first + self._global_batch, dtype=np.int64)
        own = of_all.reshape(-1, world_size, micro_batch)[:, rank]
        seen = self._read(self._with_partners(own.ravel().tolist()))
        return [self._micro_batch(positions.tolist(), seen) for positions in own]

    def _with_partners(self, positions: Iterable[int]) -> list[int]:
        wanted = set(positions)
        if blends(self._config):
            wanted |= {partner(position) for position in wanted}
        return sorted(wanted)

    def _read(self, positions: list[int]) -> dict[int, tuple[Pixels, int]]:
        """Return the changed image and the label at each position."""
        rows = self.rows(np.array(positions, dtype=np.int64)).tolist()
        read = self._pool.map(self._row, positions, rows)
        return dict(zip(positions, read, strict=True))

    def _row(self, position: int, row: int) -> tuple[Pixels, int]:
        rng = generator(self._seed, position, Purpose.TRANSFORM)
        pixels = self._transforms.for_training(self._images.read(row), rng)
        return pixels, int(self._images.labels[row])

    def _micro_batch(self, positions: list[int], seen: dict[int, tuple[Pixels, int]]) -> MicroBatch:
        rows = [self._blended(position, seen) for position in positions]
        pixels, targets = (torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True))
        return MicroBatch({"pixel_values": pixels}, targets, 1.0)

    def _blended(self, position: int, seen: dict[int, tuple[Pixels, int]]) -> tuple[Pixels, Pixels]:
        """Return the image and the target of a row."""
        classes = len(self._images.classes)
        smoothing = self._config.label_smoothing
        own, label = seen[position]
        if not blends(self._config):
            return own, smoothed(label, classes, smoothing).astype(np.float32)
        other, second = seen[partner(position)]
        blend = blend_of(self._seed, position, self._config, self._side)
        return blend.image(own, other), blend.label(label, second, classes, smoothing)
