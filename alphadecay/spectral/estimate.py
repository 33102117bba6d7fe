"""Weight matrix -> α, with a status instead of a surprise.

Shapes: weight_MN the weight (leading dimensions are a stack), K = min(M, N), gram_KK, row [...,
    len(FIELDS)] float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from alphadecay.spectral.cutoff import search_stack
from alphadecay.spectral.esd import Spectrum, spectrum_of_gram, spectrum_of_weight
from alphadecay.spectral.gram import gram_exponent, prescale, take_gram
from alphadecay.spectral.status import Status
from alphadecay.spectral.tail import TailFit, hill

Tail = Literal["hill", "goodness_of_fit", "fix_finger"]
Method = Literal["gram", "svd"]

FIELDS = ("alpha", "x_min", "tail_count", "ks_distance", "status", "escalate")
MINIMUM = 8  # eigenvalues: fewer make no tail
PUBLISHED_MINIMUM = 50
FLOAT32_RATIO = 1e-5  # float32 resolves x_min/λmax above this
DEFICIENT_RATIO = 1e-12  # and float64 above this
DEGENERATE_LOG = 2e-5  # mean ln(λ/x_min) of the tail: 1e-5 of all eigenvalues
FLOAT32_LOG = 4e-2  # the same mean, below which float32 loses digits: α over 26


@dataclass(frozen=True)
class Estimate:
    """One estimate on the host: alpha is NaN unless status is OK; x_min has the unit of the weight,
    squared; tail_count counts eigenvalues.
    """

    alpha: float
    x_min: float
    tail_count: int
    ks_distance: float
    status: Status


def _check_choices(tail: str, method: str, precision: torch.dtype) -> None:
    for name, value, choices in (
        ("tail", tail, get_args(Tail)),
        ("method", method, get_args(Method)),
    ):
        if value not in choices:
            raise ValueError(f"{name}={value!r}: choose one of {', '.join(choices)}")
    if precision not in (torch.float32, torch.float64):
        raise ValueError(f"precision={precision}: choose torch.float32 or torch.float64")


def _too_small(stack: Sequence[int], device: torch.device) -> Tensor:
    values = [math.nan, math.nan, 0.0, math.nan, float(Status.TOO_SMALL), 0.0]
    return (
        torch.tensor(values, dtype=torch.float64, device=device).expand(*stack, len(FIELDS)).clone()
    )


def _fit(eigenvalues_K: Tensor, exponent: Tensor, tail: str, published: bool) -> TailFit:
    if tail == "hill":
        return hill(eigenvalues_K, published=published)
    unit = torch.ldexp(torch.ones_like(eigenvalues_K[..., 0]), 2 * exponent)
    return search_stack(eigenvalues_K, unit=unit, finger=tail == "fix_finger", published=published)


def judge(
    spectrum: Spectrum,
    exponent: Tensor,
    precision: torch.dtype,
    *,
    tail: str,
    published: bool,
    escalated: bool = True,
) -> Tensor:
    """Fit the tail, give it a status, and pack a row: [..., len(FIELDS)].

    Args: spectrum of the weight times 2**−exponent; precision it was computed in; escalated False
        to ask for float64 in any case.
    """
    fit = _fit(spectrum.eigenvalues_K, exponent, tail, published)
    largest = spectrum.eigenvalues_K[..., -1]
    log_mean = 1 / (fit.alpha - 1)  # of ln(λ/x_min) over the tail
    status = torch.where(log_mean >= DEGENERATE_LOG, float(Status.OK), float(Status.DEGENERATE))
    status = torch.where(
        fit.x_min <= DEFICIENT_RATIO * largest, float(Status.RANK_DEFICIENT), status
    )
    status = torch.where(spectrum.zero, float(Status.ZERO), status)
    status = torch.where(spectrum.finite, status, float(Status.NOT_FINITE))
    coarse = (fit.x_min <= FLOAT32_RATIO * largest) | ~(log_mean >= FLOAT32_LOG) | (not escalated)
    escalate = coarse & spectrum.finite & ~spectrum.zero & (precision == torch.float32)
    ok = status == float(Status.OK)
    x_min = torch.ldexp(fit.x_min, 2 * exponent)
    numbers = [torch.where(ok, value, math.nan) for value in (fit.alpha, x_min)]
    ends = [torch.where(ok, fit.ks_distance, math.nan), status, escalate]
    return torch.stack(
        [*numbers, fit.tail_count * ok, *(value.to(torch.float64) for value in ends)], -1
    )


def estimate_from_gram(
    gram_KK: Tensor, *, tail: Tail = "hill", published: bool = False, minimum: int = MINIMUM
) -> Tensor:
    """Solve what `take_gram` took, and fit its tail: the second half of `estimate(method="gram")`.

    Args: gram_KK [..., K, K] from `take_gram`, its precision taken from its dtype; the rest as in
        `estimate`.
    Returns: row [..., len(FIELDS)] float64. A float32 Gram always asks for escalation where tail is
        not "hill": those fits pick one
    cut-off out of many, and float32 noise can move the pick.
    Errors: ValueError for an unknown tail.
    """
    _check_choices(tail, "gram", gram_KK.dtype)
    if gram_KK.shape[-1] < max(2, PUBLISHED_MINIMUM if published else minimum):
        return _too_small(gram_KK.shape[:-2], gram_KK.device)
    with torch.no_grad():
        exponent = gram_exponent(gram_KK)
        return judge(
            spectrum_of_gram(gram_KK),
            exponent,
            gram_KK.dtype,
            tail=tail,
            published=published,
            escalated=tail == "hill",
        )


def estimate(
    weight_MN: Tensor,
    *,
    tail: Tail = "hill",
    method: Method = "gram",
    published: bool = False,
    precision: torch.dtype = torch.float32,
    minimum: int = MINIMUM,
) -> Tensor:
    """Estimate α of a weight, or of each weight of a stack, on its own device.

    The hill tail makes no host sync of its own.

    Args:
        weight_MN: [M, N] or [B, M, N], any floating dtype; bf16 and fp16 are accumulated and kept
            in `precision`.
        tail: "hill" (median cut-off), "goodness_of_fit" (least KS distance) or "fix_finger"
            (cut-off near the peak of the histogram).
        method: "gram" (eigvalsh of the smaller Gram) or "svd" (svdvals).
        published: the published code's tail index, minimum of 50 eigenvalues and fix-finger window.
        precision: float32, or float64 after a float32 row said escalate. goodness_of_fit and
            fix_finger on a Gram are always float64.
        minimum: eigenvalues below which the status is TOO_SMALL.
    Returns: float64 [len(FIELDS)] or [B, len(FIELDS)]: alpha, x_min (unit of the weight, squared),
        tail_count, ks_distance, status, and escalate = 1 where float32 was not enough: x_min ≤
        1e-5·λmax, or a spectrum so flat that rounding shows. Unless status is OK alpha is NaN.
    Errors: ValueError for another number of dimensions, an unknown choice, or an integer weight.
    """
    _check_choices(tail, method, precision)
    if weight_MN.dim() not in (2, 3) or not weight_MN.is_floating_point():
        got = f"{tuple(weight_MN.shape)} {weight_MN.dtype}"
        raise ValueError(
            f"weight is {got}: need a floating [M, N] or [B, M, N]; flatten other shapes first"
        )
    if min(weight_MN.shape[-2:]) < max(2, PUBLISHED_MINIMUM if published else minimum):
        return _too_small(weight_MN.shape[:-2], weight_MN.device)
    if method == "gram":
        return estimate_from_gram(
            take_gram(weight_MN, precision if tail == "hill" else torch.float64),
            tail=tail,
            published=published,
            minimum=minimum,
        )
    with torch.no_grad():
        scaled_MN, exponent = prescale(weight_MN, precision)
        return judge(
            spectrum_of_weight(scaled_MN), exponent, precision, tail=tail, published=published
        )


def to_estimate(row: Sequence[float]) -> Estimate:
    """One row of `estimate`, brought to the host with `.tolist()`, as an Estimate.

    Errors: ValueError for another length.
    """
    if len(row) != len(FIELDS):
        raise ValueError(f"a row has {len(FIELDS)} fields ({', '.join(FIELDS)}), got {len(row)}")
    return Estimate(float(row[0]), float(row[1]), int(row[2]), float(row[3]), Status(int(row[4])))


def pl_alpha_hill(weight: Tensor) -> float:
    """α of one matrix by the paper's formula (`tail.hill`), in float32, and again in float64 where
    float32 is not enough.

    Args: weight [M, N], floating. Returns: α, a pure number > 1.
    Errors: ValueError for another number of dimensions, and naming the status and what to do where
        there is no α.
    """
    if weight.dim() != 2:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}: pl_alpha_hill takes one [M, N] matrix; split "
            "or flatten it first"
        )
    row = estimate(weight).tolist()
    if row[FIELDS.index("escalate")]:
        row = estimate(weight, precision=torch.float64).tolist()
    result = to_estimate(row)
    if result.status is not Status.OK:
        raise ValueError(
            f"weight {tuple(weight.shape)} is {result.status.label}: {result.status.advice}"
        )
    return result.alpha
