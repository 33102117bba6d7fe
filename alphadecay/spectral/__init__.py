"""Spectra of weight matrices: tensors in, tensors out."""

from alphadecay.spectral.estimate import (
    FIELDS,
    Estimate,
    estimate,
    estimate_from_gram,
    pl_alpha_hill,
    to_estimate,
)
from alphadecay.spectral.farms import estimate_farms
from alphadecay.spectral.gram import take_gram
from alphadecay.spectral.metrics import SCORES, estimate_score, gradient_norm, scores
from alphadecay.spectral.status import Status

__all__ = [
    "FIELDS",
    "SCORES",
    "Estimate",
    "Status",
    "estimate",
    "estimate_farms",
    "estimate_from_gram",
    "estimate_score",
    "gradient_norm",
    "pl_alpha_hill",
    "scores",
    "take_gram",
    "to_estimate",
]
