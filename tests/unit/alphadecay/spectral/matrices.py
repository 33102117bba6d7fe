"""Matrices with known spectra, and α by the formula."""

from __future__ import annotations

import numpy as np
import torch


def oracle(weight: torch.Tensor, published: bool = False) -> float:
    """The formula, in numpy, float64."""
    values = np.sort(np.linalg.svd(weight.detach().double().numpy(), compute_uv=False) ** 2)
    count = len(values)
    if published:
        tail = values[count // 2 :]
        return 1 + len(tail) / np.log(tail / tail[0]).sum()
    half = count // 2
    return 1 + half / np.log(values[count - half :] / values[count - half - 1]).sum()


def power_law(rows: int, columns: int, exponent: float, seed: int = 0) -> torch.Tensor:
    """A matrix whose eigenvalues are quantiles of a power law of that exponent."""
    generator = torch.Generator().manual_seed(seed)
    size = min(rows, columns)
    left, _ = torch.linalg.qr(torch.randn(rows, size, generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(columns, size, generator=generator, dtype=torch.float64))
    quantile = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    eigenvalues = (1 - quantile) ** (-1 / (exponent - 1))
    return (left * eigenvalues.sqrt()) @ right.mT


def gaussian(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(
        rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def spiked(rows: int, columns: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    left, right = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((rows, 3), (3, columns))
    )
    return gaussian(rows, columns, 4) + 10 * left @ right
