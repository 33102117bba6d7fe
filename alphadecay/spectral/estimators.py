"""The registries: every way to a spectrum, to its tail, and to a row with or without a spectrum;
one line each.

Shapes: weight_MN the weight (leading dimensions are a stack), rows [...].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from alphadecay.spectral.esd import ESD, esd_by_gram, esd_by_svd, esd_of_gram
from alphadecay.spectral.farms import esd_by_farms
from alphadecay.spectral.gram import Gram, take_gram
from alphadecay.spectral.hill import TailFit, fit_hill
from alphadecay.spectral.judge import MINIMUM, judge
from alphadecay.spectral.kernels import esd_of_kernel
from alphadecay.spectral.moments import row_by_moments
from alphadecay.spectral.row import EstimateRow, to_estimate
from alphadecay.spectral.scores import frobenius_norm, score_row, spectral_norm
from alphadecay.spectral.status import Status
from alphadecay.spectral.tail_search import fit_fix_finger, fit_goodness_of_fit

# method -> how the spectrum of a weight is taken, in float32 or float64
METHODS: Mapping[str, Callable[..., ESD]] = {
    "gram": esd_by_gram,
    "svd": esd_by_svd,
    "farms": esd_by_farms,
}
# tail -> how the power law is fitted to it
TAILS: Mapping[str, Callable[[ESD, bool], TailFit]] = {
    "hill": fit_hill,
    "goodness_of_fit": fit_goodness_of_fit,
    "fix_finger": fit_fix_finger,
}
# what may stand in the place of α
NORMS: Mapping[str, Callable[..., Tensor]] = {
    "frobenius_norm": frobenius_norm,
    "spectral_norm": spectral_norm,
}


class Estimator(Protocol):
    """An estimator makes the row of a weight; what does not concern it, it ignores."""

    def __call__(
        self,
        weight_MN: Tensor,
        *,
        tail: str = "hill",
        published: bool = False,
        precision: torch.dtype = torch.float32,
        minimum: int = MINIMUM,
        kernel: int = 1,
    ) -> EstimateRow: ...


def estimate(
    weight_MN: Tensor,
    *,
    tail: str = "hill",
    method: str = "gram",
    published: bool = False,
    precision: torch.dtype = torch.float32,
    minimum: int = MINIMUM,
    kernel: int = 1,
) -> EstimateRow:
    """Estimate α of a weight, or of each weight of a stack, on its own device.

    The hill tail makes no host sync of its own.

    Args:
        weight_MN: [M, N] or [B, M, N], any floating dtype; bf16 and fp16 are accumulated and kept
            in `precision`.
        tail: a key of TAILS: "hill" (median cut-off), "goodness_of_fit" (least KS distance) or
            "fix_finger" (cut-off near the peak of the histogram).
        method: a key of METHODS: "gram" (eigvalsh of the smaller Gram), "svd" (svdvals) or "farms"
            (the pooled windows of one [M, N]).
        published: the published code's tail index, minimum of 50 eigenvalues and fix-finger window.
        precision: float32, or float64 after a float32 row said escalate. The tail searches on a
            Gram are always float64: they pick one cut-off out of many, and float32 noise can move
            the pick.
        minimum: eigenvalues below which the status is TOO_SMALL.
        kernel: positions of a convolution's kernel, whose spectra are pooled as published; 1 takes
            [O, I·kh·kw] as one matrix.

    Raises:
        ValueError: another number of dimensions, an unknown choice, or a weight that is not real.
    """
    _require("tail", tail, TAILS)
    _require("method", method, METHODS)
    _check(weight_MN, precision)
    if min(weight_MN.shape[-2:]) < 2:
        return EstimateRow.too_small(weight_MN.shape[:-2], weight_MN.device)
    if tail != "hill" and method != "svd":
        precision = torch.float64
    take = partial(METHODS[method], precision=precision)
    esd = take(weight_MN) if kernel == 1 else esd_of_kernel(weight_MN, kernel, take)
    return judge(esd, TAILS[tail](esd, published), published=published, minimum=minimum)


def estimate_from_gram(
    gram: Gram, *, tail: str = "hill", published: bool = False, minimum: int = MINIMUM
) -> EstimateRow:
    """Solve what `take_gram` took, and fit its tail: the second half of `estimate`.

    A float32 Gram always asks for escalation where the tail is searched.
    """
    _require("tail", tail, TAILS)
    if gram.matrix_KK.shape[-1] < 2:
        return EstimateRow.too_small(gram.matrix_KK.shape[:-2], gram.matrix_KK.device)
    esd = esd_of_gram(gram)
    row = judge(esd, TAILS[tail](esd, published), published=published, minimum=minimum)
    if tail != "hill" and esd.precision is torch.float32:
        return row._replace(escalate=torch.ones_like(row.escalate))
    return row


def estimate_norm(
    weight_MN: Tensor, name: str, *, precision: torch.dtype = torch.float32, **_ignored: object
) -> EstimateRow:
    """Return a norm of a weight [..., M, N] in the place of α.

    Of an estimator's options only `precision` concerns it.
    """
    _check(weight_MN, precision)
    if min(weight_MN.shape[-2:]) < 2:
        return EstimateRow.too_small(weight_MN.shape[:-2], weight_MN.device)
    return score_row(esd_by_gram(weight_MN, precision), NORMS[name])


def estimate_by_moments(
    grams: Sequence[Gram], *, published: bool = False, minimum: int = MINIMUM
) -> list[EstimateRow]:
    """Return the rows of float64 Grams of one side: all at once by moments (the hill tail), those
    in doubt by their eigenvalues.
    """
    row, doubt = row_by_moments(Gram.stack(grams), published=published, minimum=minimum)
    rows = row.unstack()
    for index in doubt.nonzero()[:, 0].tolist():
        rows[index] = estimate_from_gram(grams[index], published=published, minimum=minimum)
    return rows


# method -> rows of float64 Grams of one side, made together and without a spectrum
GRAM_METHODS: Mapping[str, Callable[..., list[EstimateRow]]] = {
    "moments": estimate_by_moments,
}


def estimate_without_spectrum(
    weight_MN: Tensor,
    method: str,
    *,
    published: bool = False,
    minimum: int = MINIMUM,
    kernel: int = 1,
    **_ignored: object,
) -> EstimateRow:
    """Estimate α of one weight [M, N] by a key of GRAM_METHODS, with the tail "hill".

    A pooled spectrum, and so kernel > 1, is taken by its eigenvalues, in float64 as the Gram is.
    """
    _check(weight_MN)
    if kernel != 1 or min(weight_MN.shape) < 2:
        return estimate(
            weight_MN,
            published=published,
            precision=torch.float64,
            minimum=minimum,
            kernel=kernel,
        )
    gram = take_gram(weight_MN, torch.float64)
    return GRAM_METHODS[method]([gram], published=published, minimum=minimum)[0]


# what AlphaDecay may measure, by the name of its method or of its score
ESTIMATORS: Mapping[str, Estimator] = {
    **{name: partial(estimate, method=name) for name in METHODS},
    **{name: partial(estimate_without_spectrum, method=name) for name in GRAM_METHODS},
    **{name: partial(estimate_norm, name=name) for name in NORMS},
}


def eigenvalues(
    weight_MN: Tensor, *, method: str = "gram", precision: torch.dtype = torch.float64
) -> Tensor:
    """Return the spectrum that α is fitted to, ascending, in the unit of the weight, squared.

    Args: weight_MN [M, N] or [B, M, N], min(M, N) ≥ 2; method a key of METHODS.
    Returns: float64 [..., K] on the weight's device (the CPU where that has no float64); NaN where
        the weight is not finite or no solver converged, 0 for the zero matrix.

    Raises:
        ValueError: as `estimate`, or fewer than 2 rows or columns.
    """
    _require("method", method, METHODS)
    _check(weight_MN, precision)
    if min(weight_MN.shape[-2:]) < 2:
        raise ValueError(f"weight is {list(weight_MN.shape)}: a spectrum takes 2 eigenvalues")
    return METHODS[method](weight_MN, precision).in_weight_units()


def pl_alpha_hill(weight: Tensor) -> float:
    """Return α of one matrix by the paper's formula (`hill`), a pure number above 1.

    It is computed in float32, and again in float64 where float32 is not enough.

    Raises:
        ValueError: another number of dimensions than [M, N]; or there is no α: the message names
            the status and what to do.
    """
    if weight.dim() != 2:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}: pl_alpha_hill takes one [M, N] matrix; split "
            "or flatten it first"
        )
    result = to_estimate(estimate(weight).pack().tolist())
    if result.escalate:
        result = to_estimate(estimate(weight, precision=torch.float64).pack().tolist())
    if result.status is not Status.OK:
        raise ValueError(
            f"weight {tuple(weight.shape)} is {result.status.label}: {result.status.advice}"
        )
    return result.alpha


def _require(name: str, value: str, registry: Mapping[str, object]) -> None:
    if value not in registry:
        raise ValueError(f"{name}={value!r}: choose one of {', '.join(registry)}")


def _check(weight: Tensor, precision: torch.dtype = torch.float64) -> None:
    if precision not in (torch.float32, torch.float64):
        raise ValueError(f"precision={precision}: choose torch.float32 or torch.float64")
    if weight.dim() not in (2, 3) or not weight.is_floating_point():
        raise ValueError(
            f"weight is {tuple(weight.shape)} {weight.dtype}: need a floating [M, N] or [B, M, N]; "
            "flatten other shapes first"
        )
