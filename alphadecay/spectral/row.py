"""The typed result of an estimate: on the device as a row of tensors, on the host as numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from alphadecay.spectral.status import Status


class EstimateRow(NamedTuple):
    """This is one estimate for each weight of a stack [...]: float64 tensors [...] on one device.

    alpha: PL_Alpha, or the score in its place; NaN unless the status is OK.
    x_min: where the tail begins, in the unit of the weight, squared.
    tail_count: eigenvalues in the tail.
    ks_distance: Kolmogorov–Smirnov distance of the fit.
    status: a `Status`.
    escalate: 1 where float32 was not enough and float64 is asked for.
    """

    alpha: Tensor
    x_min: Tensor
    tail_count: Tensor
    ks_distance: Tensor
    status: Tensor
    escalate: Tensor

    def pack(self) -> Tensor:
        """Return one float64 tensor [..., len(FIELDS)], the fields last: what ranks share."""
        return torch.stack(tuple(self), -1)

    def unstack(self) -> list[EstimateRow]:
        """Return the rows of a stack, one for each weight along its first dimension."""
        return [
            EstimateRow(*fields) for fields in zip(*(field.unbind() for field in self), strict=True)
        ]

    @classmethod
    def make(
        cls,
        status: Tensor,
        alpha: Tensor,
        x_min: Tensor | None = None,
        tail_count: Tensor | None = None,
        ks_distance: Tensor | None = None,
        escalate: Tensor | None = None,
    ) -> EstimateRow:
        """Return the row of a status [...]; where it is not OK the numbers are NaN and the count 0.

        What is left out is NaN, and 0 for tail_count and escalate.
        """
        ok = status == float(Status.OK)
        zero = torch.zeros_like(status)
        nan = torch.full_like(status, math.nan)
        return cls(
            torch.where(ok, alpha, nan),
            nan if x_min is None else torch.where(ok, x_min, nan),
            zero if tail_count is None else torch.where(ok, tail_count, zero),
            nan if ks_distance is None else torch.where(ok, ks_distance, nan),
            status,
            zero if escalate is None else escalate.to(status.dtype),
        )

    @classmethod
    def too_small(cls, stack: Sequence[int], device: torch.device) -> EstimateRow:
        """Return the rows of matrices that have too few eigenvalues for a tail."""
        status = torch.full(tuple(stack), float(Status.TOO_SMALL), dtype=torch.float64)
        status = status.to(device)
        return cls.make(status, torch.full_like(status, math.nan))


FIELDS = EstimateRow._fields


@dataclass(frozen=True)
class Estimate:
    """This is one estimate on the host.

    alpha is NaN unless status is OK; x_min has the unit of the weight, squared; tail_count counts
    eigenvalues; escalate is True where it was made in float32, which was not enough.
    """

    alpha: float
    x_min: float
    tail_count: int
    ks_distance: float
    status: Status
    escalate: bool = False


def to_estimate(numbers: Sequence[float]) -> Estimate:
    """Return one row of `EstimateRow.pack`, brought to the host with `.tolist()`, as an Estimate.

    Raises:
        ValueError: another length.
    """
    if len(numbers) != len(FIELDS):
        fields = ", ".join(FIELDS)
        raise ValueError(f"a row has {len(FIELDS)} fields ({fields}), got {len(numbers)}")
    alpha, x_min, tail_count, distance, status, escalate = numbers
    return Estimate(
        float(alpha),
        float(x_min),
        int(tail_count),
        float(distance),
        Status(int(status)),
        bool(escalate),
    )
