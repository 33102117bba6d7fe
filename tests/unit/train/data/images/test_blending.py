"""Pairs of rows: blended or cut into each other, and their labels with them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from train.config import ImagesConfig
from train.data.images.blending import Blend, blend_of, blends, partner, smoothed

MIXUP = ImagesConfig(mixup=0.8, cutmix=0)
CUTMIX = ImagesConfig(mixup=0, cutmix=1)
SIDE = 20


def plain(value: float) -> np.ndarray:
    return np.full((3, SIDE, SIDE), value, dtype=np.float32)


def test_rows_are_paired_with_one_neighbour():
    assert [partner(position) for position in range(6)] == [1, 0, 3, 2, 5, 4]
    assert blends(MIXUP) and blends(CUTMIX) and not blends(replace(MIXUP, mixup=0))


@pytest.mark.parametrize("config", [MIXUP, CUTMIX, ImagesConfig()])
def test_both_rows_of_a_pair_have_one_blend(config):
    drawn = [blend_of(1, position, config, SIDE) for position in range(200)]
    assert drawn[::2] == drawn[1::2]
    assert len(set(drawn[::2])) > 80
    assert all(0 <= blend.share <= 1 for blend in drawn)


def test_either_is_drawn_by_halves():
    cut = [blend_of(1, 2 * pair, ImagesConfig(), SIDE).box is not None for pair in range(400)]
    assert np.mean(cut) == pytest.approx(0.5, abs=0.075)  # 3 sd


def test_a_blend_is_the_weighted_mean():
    blend = Blend(0.25)
    assert np.allclose(blend.image(plain(0), plain(4)), 3)
    label = blend.label(0, 2, 4, smoothing=0.2)
    assert label.dtype == np.float32
    np.testing.assert_allclose(label, [0.05 + 0.2, 0.05, 0.05 + 0.6, 0.05], atol=1e-7)


def test_a_cut_takes_the_share_of_its_label():
    for position in range(0, 100, 2):
        blend = blend_of(1, position, CUTMIX, SIDE)
        own = blend.image(plain(0), plain(1))
        assert set(np.unique(own)) <= {0, 1}
        assert 1 - own.mean() == pytest.approx(blend.share, abs=1e-6)


def test_beta_has_the_mean_and_the_spread_of_its_alpha():
    shares = [blend_of(1, 2 * pair, MIXUP, SIDE).share for pair in range(2000)]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.025)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * 0.8 + 1)), abs=0.01)


def test_smoothing_spreads_a_share_over_all_classes():
    np.testing.assert_allclose(smoothed(1, 5, 0.1), [0.02, 0.92, 0.02, 0.02, 0.02])
