"""A weight against its shuffled copy: correlations are found, large entries are told apart."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from alphadecay.inspect.analysis.shuffled import bulk_edge, compare_shuffled
from alphadecay.spectral import eigenvalues


def compared(weight_MN: Tensor, name: str = "w", seed: int = 0) -> tuple[int, int]:
    """Return how many eigenvalues lie beyond the bulk, and how many traps there are."""
    found = compare_shuffled(weight_MN, eigenvalues(weight_MN), name, seed)
    assert found is not None
    return found.beyond, found.traps


def noise(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))


def test_noise_has_neither() -> None:
    for shape in ((40, 60), (128, 32), (64, 64)):
        assert compared(noise(*shape)) == (0, 0)


def test_correlations_lie_beyond_the_bulk_and_do_not_survive_the_shuffle() -> None:
    signal = 3 * noise(96, 3) @ noise(3, 80)
    assert compared(noise(96, 80) + signal) == (3, 0)


def test_a_few_large_entries_survive_it_and_are_traps() -> None:
    weight = noise(96, 80)
    weight[3, 5] = 60
    weight[40, 11] = 50
    beyond, traps = compared(weight)
    assert traps == 2 and beyond <= 1


def test_the_edge_is_exceeded_by_noise_about_once_in_a_thousand_times() -> None:
    generator = np.random.default_rng(0)
    above = 0
    for _ in range(400):
        weight = torch.from_numpy(generator.standard_normal((30, 50)))
        largest = np.linalg.svd(weight.numpy(), compute_uv=False)[0] ** 2
        above += largest > bulk_edge(weight)
    # 0.4 are expected, five with a probability of 1e-4
    assert above <= 4


def test_seed_and_name_fix_the_shuffle() -> None:
    weight = noise(32, 32)
    values_K = eigenvalues(weight)
    first, same, seed, name = (
        compare_shuffled(weight, values_K, *which)
        for which in (("w", 0), ("w", 0), ("w", 1), ("v", 0))
    )
    assert first and same and seed and name
    assert first == same
    assert len({first.largest, seed.largest, name.largest}) == 3


def test_what_has_no_spectrum_is_not_compared() -> None:
    assert compare_shuffled(torch.zeros(9, 9), torch.zeros(9), "w", 0) is None
    assert compare_shuffled(torch.ones(1, 9), torch.empty(0), "w", 0) is None
