"""The bench of spectra compares every way through a stack, and says how far moments are off."""

from __future__ import annotations

import pytest

from alphadecay.spectral.moments import SMALLEST
from tests.bench import spectral


def test_a_stack_goes_every_way() -> None:
    row = spectral.bench_stack(SMALLEST, 3, 1, "cpu")
    assert set(row["seconds"]) == {"each", "stacked", "threads_float64", "moments"}
    assert row["moments"]["in_doubt"] == 0
    assert 0 < row["moments"]["alpha_error"] < 1e-3


def test_what_moments_leave_to_eigenvalues_is_no_error() -> None:
    row = spectral.bench_stack(16, 2, 1, "cpu")
    assert row["moments"] == {"in_doubt": 1.0, "alpha_error": 0.0}


@pytest.mark.parametrize(
    ("arguments", "stacks"),
    [
        ([], [(64, 32), (256, 32)]),
        (["--sides", "512", "--counts", "8", "24"], [(512, 8), (512, 24)]),
        (["--sides", "4096", "--counts", "24", "96"], [(4096, 24)]),  # what fits a GPU
        (["--max-side", "100"], [(64, 32)]),
    ],
)
def test_sizes_are_a_matter_of_options(arguments: list[str], stacks: list[tuple[int, int]]) -> None:
    options = spectral.parse(["--device", "cpu", *arguments])
    assert spectral.stacks_of(options, cuda=False) == stacks


def test_on_a_gpu_all_that_fit() -> None:
    stacks = spectral.stacks_of(spectral.parse([]), cuda=True)
    every = {(side, count) for side in (512, 1024, 2048, 4096) for count in (8, 24, 96)}
    assert set(stacks) == every - {(4096, 96)}
