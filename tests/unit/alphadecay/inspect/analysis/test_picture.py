"""The picture of a tail: where its marks are is where the numbers say."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from alphadecay.inspect.analysis.picture import CUT, DATA, HEIGHT, LAW, draw_tail
from alphadecay.inspect.analysis.spectrum import take_spectrum
from alphadecay.spectral import Estimate, Status

# An exact power law: the share above λ is (λ / 1)^(1 - 3), so that alpha is 3.
LAW_OF_3 = torch.tensor([(1 - (place / 200)) ** -0.5 for place in range(200)], dtype=torch.float64)


def test_a_power_law_is_a_straight_line_through_the_data() -> None:
    fit = Estimate(3.0, float(LAW_OF_3[0]), 200, 0.0, Status.OK)
    lines = draw_tail(LAW_OF_3, fit, 80).splitlines()
    picture = [line[9:] for line in lines[:HEIGHT]]
    assert all(len(line) <= 80 for line in lines)
    places = [line.rfind(LAW) for line in picture]
    steps = [after - before for before, after in itertools.pairwise(places)]
    # the same number of columns for each line, to rounding and to points that cover it
    assert max(steps) - min(steps) <= 3 and min(steps) > 0
    # data stands beside the law or under it, nowhere else
    for line in picture:
        for column, mark in enumerate(line):
            assert mark != DATA or LAW in line[max(0, column - 4) : column + 5]


def test_the_tail_has_half_of_the_width_and_begins_at_the_cut() -> None:
    torch.manual_seed(0)
    spectrum = take_spectrum(torch.randn(64, 64))
    lines = draw_tail(spectrum.eigenvalues, spectrum.estimate, 80).splitlines()
    cut = {line[9:].index(CUT) for line in lines[:3]}
    assert cut == {(80 - 9) // 2}


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_it_is_as_wide_as_it_is_told(columns: int) -> None:
    fit = Estimate(math.nan, math.nan, 0, math.nan, Status.RANK_DEFICIENT)
    lines = draw_tail(LAW_OF_3, fit, columns).splitlines()
    assert max(map(len, lines)) == columns
    assert not any(LAW in line or CUT in line[9:] for line in lines[:HEIGHT])


def test_nothing_is_drawn_of_nothing() -> None:
    fit = Estimate(math.nan, math.nan, 0, math.nan, Status.ZERO)
    for values in ([], [0.0, 0.0], [1.0, 1.0]):
        assert draw_tail(torch.tensor(values, dtype=torch.float64), fit, 80) == ""
