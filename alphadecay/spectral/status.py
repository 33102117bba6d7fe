"""Why a matrix has no α."""

from __future__ import annotations

from enum import IntEnum

ADVICE = {
    "rank_deficient": (
        "half of its spectrum is numerically zero; skip the module or lower its sparsity"
    ),
    "degenerate": (
        "its eigenvalues are all equal, as those of an orthogonal matrix are; train it first or "
        "skip the module"
    ),
    "not_finite": "it holds NaN or Inf; find the step at which the run diverged",
    "too_small": "it has too few eigenvalues for a tail; skip the module",
    "zero": "it is the zero matrix; skip the module until it has been trained",
    "not_converged": (
        "no solver converged on it, in float32, in float64 or on the CPU; skip the module"
    ),
}


class Status(IntEnum):
    """Outcome of one estimate; anything but OK means that α is NaN and the module keeps the base
    decay.
    """

    OK = 0
    RANK_DEFICIENT = 1
    DEGENERATE = 2
    NOT_FINITE = 3
    TOO_SMALL = 4
    ZERO = 5
    NOT_CONVERGED = 6

    @property
    def label(self) -> str:
        """The name in lower case, such as "ok" or "rank_deficient"."""
        return self.name.lower()

    @property
    def advice(self) -> str:
        """What to do about it, in a clause; empty for OK."""
        return ADVICE.get(self.label, "")
