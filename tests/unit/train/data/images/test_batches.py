"""Batch k of images: the same rows, pixels and targets for any number of ranks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from train.config import ImagesConfig
from train.data.images.batches import ImageBatches
from train.data.images.drawn import CLASSES, DrawnImages, draw
from train.data.images.held_out import read_in_turn
from train.data.images.transforms import Transforms, normalised

SIDE = 16
ROWS = 12
IMAGES = DrawnImages(30, SIDE)
POOL = ThreadPoolExecutor(2)
DEFAULT = ImagesConfig()
PLAIN = ImagesConfig(
    crop_scale=1, centre_crop=1, flip=0, rand_augment=0, erasing=0, mixup=0, cutmix=0
)


def batches(config: ImagesConfig = DEFAULT, seed: int = 3) -> ImageBatches:
    return ImageBatches(IMAGES, config, SIDE, seed, ROWS, 5, POOL)


def whole(source: ImageBatches, k: int, ranks: int, micro: int) -> list[torch.Tensor]:
    """Pixels and targets of the global batch, in the order of its rows."""
    shares = [source.batch(k, rank, ranks, micro) for rank in range(ranks)]
    rows = [part for step in zip(*shares, strict=True) for part in step]
    assert all(part.scale == 1 for part in rows)
    pixels = torch.cat([part.inputs["pixel_values"] for part in rows])
    return [pixels, torch.cat([part.targets for part in rows if part.targets is not None])]


@pytest.mark.parametrize(("ranks", "micro"), [(1, 1), (1, 3), (2, 3), (3, 4), (4, 1), (12, 1)])
def test_any_number_of_ranks_sees_the_same(ranks, micro):
    expected = whole(batches(), 4, 1, ROWS)
    assert [tensor.shape for tensor in expected] == [(ROWS, 3, SIDE, SIDE), (ROWS, 10)]
    assert all(map(torch.equal, whole(batches(), 4, ranks, micro), expected))


def test_another_batch_and_another_seed_are_others():
    pixels = whole(batches(), 4, 1, ROWS)[0]
    for other in (whole(batches(), 5, 1, ROWS), whole(batches(seed=4), 4, 1, ROWS)):
        assert not torch.equal(pixels, other[0])


def test_an_epoch_holds_every_image_once_and_its_label():
    source = batches(PLAIN)
    rows = source.rows(np.arange(30))
    assert sorted(rows) == list(range(30)) and sorted(source.rows(np.arange(30, 60))) == sorted(
        rows
    )
    pixels, targets = whole(source, 0, 1, ROWS)
    for place, row in enumerate(rows[:ROWS]):
        assert np.array_equal(pixels[place].numpy(), normalised(IMAGES.read(row)))
        assert targets[place].argmax() == IMAGES.labels[row]
        assert targets[place].max() == pytest.approx(0.91)


def test_targets_are_probabilities_of_both_labels():
    pixels, targets = whole(batches(replace(PLAIN, mixup=1.0, label_smoothing=0)), 0, 1, ROWS)
    torch.testing.assert_close(targets.sum(1), torch.ones(ROWS))
    assert int((targets > 0).sum(1).max()) == 2
    assert pixels.dtype == targets.dtype == torch.float32


def test_positions_are_counted_over_all_ranks():
    assert batches().tokens(7) == ROWS * 5


def test_drawn_images_are_the_same_every_time_and_two_sets_share_none():
    assert np.array_equal(draw(17, SIDE), np.array(DrawnImages(20, SIDE).read(17)))
    assert np.array_equal(draw(25, SIDE), np.array(DrawnImages(20, SIDE, 20).read(5)))
    assert DrawnImages(20, SIDE).identity != DrawnImages(20, SIDE, 20).identity
    assert np.bincount(DrawnImages(20, SIDE).labels).tolist() == [2] * len(CLASSES)


def test_validation_reads_each_image_in_turn():
    transforms = Transforms(PLAIN, SIDE)
    numbers = [np.array([0, 1]), np.array([2, 2])]
    read = list(read_in_turn(IMAGES, transforms, numbers, POOL))
    assert [labels.tolist() for _, labels in read] == [[0, 1], [2, 2]]
    assert np.array_equal(read[1][0][1].numpy(), transforms.for_validation(IMAGES.read(2)))
    assert list(read_in_turn(IMAGES, transforms, [], POOL)) == []
