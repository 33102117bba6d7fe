"""The alpha of one matrix that numpy saved.

Shapes: weight_MN the matrix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alphadecay.inspect.errors import InspectError
from alphadecay.spectral import Estimate, Status, estimate, to_estimate


@dataclass(frozen=True)
class MatrixEstimate:
    """This is the estimate of a file's matrix.

    Args:
        file: as it was named.
        shape: rows and columns.
        result: its status is OK.
    """

    file: Path
    shape: tuple[int, int]
    result: Estimate

    def as_text(self) -> str:
        """Return it in four lines."""
        rows, columns = self.shape
        return "\n".join(
            [
                f"alpha        {self.result.alpha:.4f}",
                f"KS distance  {self.result.ks_distance:.4f}",
                f"tail         {self.result.tail_count} of {min(rows, columns)} eigenvalues",
                f"shape        {rows} x {columns}",
            ]
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {
            "file": str(self.file),
            "shape": list(self.shape),
            "alpha": self.result.alpha,
            "ks_distance": self.result.ks_distance,
            "tail_count": self.result.tail_count,
            "x_min": self.result.x_min,
        }


def estimate_file(file: Path, tail: str) -> MatrixEstimate:
    """Estimate the matrix of a file.

    Args: tail: a key of `alphadecay.spectral.TAILS`.

    Raises:
        InspectError: the file holds no matrix, or one that has no alpha.
    """
    weight_MN = load_matrix(file)
    # Float64 at once: on a CPU a single matrix is not worth a second try.
    row = estimate(torch.from_numpy(weight_MN), tail=tail, precision=torch.float64)
    result = to_estimate([float(value) for value in row])
    if result.status is not Status.OK:
        raise InspectError(f"{file}: no alpha, {result.status.label}: {result.status.advice}")
    rows, columns = weight_MN.shape
    return MatrixEstimate(file, (rows, columns), result)


def load_matrix(file: Path) -> np.ndarray:
    """Return the matrix [M, N] in float64.

    Raises:
        InspectError: no such file, no array of numpy's, another number of dimensions, no real
            floats, or NaN and Inf in it.
    """
    try:
        array = np.load(file, allow_pickle=False)
    except FileNotFoundError as error:
        raise InspectError(f"{file}: no such file") from error
    except (OSError, ValueError, EOFError) as error:
        raise InspectError(
            f"{file}: not an array that numpy can read ({error}); write one with numpy.save"
        ) from error
    if not isinstance(array, np.ndarray):
        raise InspectError(
            f"{file}: an archive of several arrays; save one of them with numpy.save"
        )
    if array.ndim != 2:
        raise InspectError(
            f"{file}: its shape is {array.shape}, need a matrix [rows, columns]; "
            "split or flatten it first"
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise InspectError(f"{file}: its values are {array.dtype}, need real floats")
    broken = array.size - int(np.isfinite(array).sum())
    if broken:
        raise InspectError(
            f"{file}: {broken} of {math.prod(array.shape)} values are NaN or Inf; "
            "find the step at which the run diverged"
        )
    return np.asarray(array, dtype=np.float64)
