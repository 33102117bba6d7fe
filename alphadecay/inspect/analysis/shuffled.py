"""A weight against its own shuffled copy: what of its spectrum is correlation, and what is a few
large entries.

The copy has the entries of the weight and none of its correlations. Eigenvalues of the weight above
the copy's bulk come from correlations. Eigenvalues of the copy itself that stand out of the bulk
that Marchenko and Pastur give a random matrix are correlation traps: entries so large that they
make a direction of their own (Martin and Mahoney, Journal of Machine Learning Research 22, 2021,
section 5, and the WeightWatcher tool).

Shapes: weight_MN the matrix, K = min(M, N), eigenvalues_K ascending.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from alphadecay.spectral import eigenvalues

# The largest eigenvalue of a random matrix exceeds the edge by more than this many of its scales
# once in a thousand times (Tracy and Widom's law for real matrices; Johnstone 2001).
TRACY_WIDOM_999 = 3.272


@dataclass(frozen=True)
class Shuffled:
    """This is what the shuffled copy tells.

    Args:
        beyond: eigenvalues of the weight above all of the copy's and above that bulk.
        traps: eigenvalues of the copy above the bulk of a random matrix.
        largest: of the copy's eigenvalues.
        edge: of that bulk.
    """

    beyond: int
    traps: int
    largest: float
    edge: float


def compare_shuffled(
    weight_MN: Tensor, eigenvalues_K: Tensor, name: str, seed: int
) -> Shuffled | None:
    """Compare a weight's spectrum with that of a shuffled copy; None where it has none.

    Args:
        eigenvalues_K: of the weight, on the CPU.
        name: of the weight: each has a shuffle of its own.
        seed: of all shuffles.
    """
    if not len(eigenvalues_K) or not bool((eigenvalues_K[-1] > 0).item()):
        return None
    if weight_MN.dtype.itemsize == 1:  # 8-bit floats, which torch only converts
        weight_MN = weight_MN.float()
    copy_K = eigenvalues(_shuffle(weight_MN, name, seed), precision=torch.float32).cpu()
    edge = bulk_edge(weight_MN)
    largest = float(copy_K[-1])
    beyond = int((eigenvalues_K > max(largest, edge)).sum())
    return Shuffled(beyond, int((copy_K > edge).sum()), largest, edge)


def bulk_edge(weight_MN: Tensor) -> float:
    """Return the eigenvalue of WᵀW that a random matrix of this size and mean square exceeds once
    in a thousand times: s²·((√M + √N)² + 3.27·(√M + √N)·(1/√M + 1/√N)^⅓)  (Johnstone 2001).
    """
    rows, columns = weight_MN.shape
    square = float(weight_MN.float().square().mean())
    roots = math.sqrt(rows) + math.sqrt(columns)
    scale = roots * (1 / math.sqrt(rows) + 1 / math.sqrt(columns)) ** (1 / 3)
    return square * (roots**2 + TRACY_WIDOM_999 * scale)


def _shuffle(weight_MN: Tensor, name: str, seed: int) -> Tensor:
    """Return the matrix with its entries in an order that the name and the seed fix."""
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
    order = torch.randperm(weight_MN.numel(), generator=generator)
    flat = weight_MN.flatten()
    return flat[order.to(flat.device)].view(weight_MN.shape)
