"""What is done to one image: cuts, RandAugment, erasing, and the centre for validation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageOps

from tests.unit.train.data.images.pictures import picture
from train.config import ImagesConfig
from train.data.images.draws import Purpose, generator
from train.data.images.pillow import OPERATIONS, read_image, scale_and_cut_centre, to_array
from train.data.images.transforms import MEAN, STD, Transforms, erase, normalised, random_box

PLAIN = ImagesConfig(crop_scale=1, flip=0, rand_augment=0, erasing=0, centre_crop=1)


def rng(position: int = 0) -> np.random.Generator:
    return generator(7, position, Purpose.TRANSFORM)


def test_the_same_position_draws_the_same_and_another_purpose_something_else():
    assert rng(3).random() == rng(3).random()
    others = [rng(4), generator(8, 3, Purpose.TRANSFORM), generator(7, 3, Purpose.BLEND)]
    assert rng(3).random() not in [other.random() for other in others]


def test_without_augmentation_training_sees_what_validation_does():
    transforms = Transforms(PLAIN, 16)
    image = picture(0)
    centre = transforms.for_validation(image)
    assert np.array_equal(transforms.for_training(image, rng()), centre)
    scaled = image.resize((19, 16), PillowImage.Resampling.BICUBIC).crop((1, 0, 17, 16))
    pixels = np.asarray(scaled).transpose(2, 0, 1) / 255
    expected = (pixels - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
    np.testing.assert_allclose(centre, expected, rtol=0, atol=1e-6)


def test_the_centre_is_a_share_of_the_shorter_side():
    whole = PillowImage.new("RGB", (80, 40))
    whole.paste((255, 255, 255), (30, 10, 50, 30))  # the central half of the shorter side
    assert to_array(scale_and_cut_centre(whole, 20, 0.5)).min() == 255


def test_a_flip_mirrors():
    transforms = Transforms(replace(PLAIN, flip=1), 16)
    image = picture(0, 16, 16)
    mirrored = transforms.for_training(ImageOps.mirror(image), rng())
    assert np.array_equal(mirrored, normalised(image))


def test_random_boxes_keep_their_share_and_their_ratio():
    boxes = [random_box(100, 80, 0.25, rng(position)) for position in range(500)]
    areas = np.array([(r - x) * (b - y) / 8000 for x, y, r, b in boxes])
    ratios = np.array([(r - x) / (b - y) for x, y, r, b in boxes])
    assert all(0 <= x < r <= 100 and 0 <= y < b <= 80 for x, y, r, b in boxes)
    # a pixel of rounding at each side
    assert areas.min() > 0.24 and areas.max() > 0.9 and ratios.min() > 0.73 and ratios.max() < 1.36
    assert len({box[:2] for box in boxes}) > 100


def test_a_box_that_never_fits_is_the_centre():
    assert random_box(100, 10, 1, rng()) == (43, 0, 56, 10)
    assert random_box(10, 100, 1, rng()) == (0, 43, 10, 56)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_changes_an_image_and_does_nothing_of_strength_0(name):
    image = ImageOps.autocontrast(picture(1).resize((48, 40), PillowImage.Resampling.BICUBIC))
    strong = OPERATIONS[name](image, 0.9)
    assert strong.size == image.size
    unlike = not np.array_equal(np.array(strong), np.array(image))
    assert unlike or name == "autocontrast"  # it is stretched already
    if name not in ("equalize", "invert", "posterize", "autocontrast"):
        assert np.array_equal(np.array(OPERATIONS[name](image, 0.0)), np.array(image))


def test_posterize_leaves_fewer_values_the_stronger_it_is():
    image = picture(2, 64, 64)
    levels = [len(np.unique(np.array(OPERATIONS["posterize"](image, s)))) for s in (0.2, 0.6, 1)]
    assert levels == [16, 4, 1]


def test_rand_augment_does_half_of_its_draws():
    transforms = Transforms(replace(PLAIN, rand_augment=1), 16)
    image = picture(3, 16, 16)
    plain = normalised(image)
    changed = [
        not np.array_equal(transforms.for_training(image, rng(p)), plain) for p in range(400)
    ]
    # one in fifteen operations, autocontrast, may leave noise as it is; 3 sd of the mean is 0.075
    assert 0.36 < np.mean(changed) < 0.58


def test_erasing_puts_noise_into_one_rectangle():
    shares = []
    for position in range(200):
        pixels = np.full((3, 32, 32), 9.0, dtype=np.float32)
        erase(pixels, rng(position))
        gone = (pixels != 9).all(axis=0)
        rows, columns = (np.flatnonzero(gone.any(axis=axis)) for axis in (1, 0))
        assert gone[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        shares.append(gone.mean())
    assert 0.01 < min(shares) < 0.05 and 0.25 < max(shares) < 0.36


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_told(content):
    with pytest.raises(ValueError, match=r"."):
        read_image(content)
