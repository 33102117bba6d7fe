"""Spectra of weight matrices: tensors in, typed rows out."""

from alphadecay.spectral.estimators import (
    ESTIMATORS,
    GRAM_METHODS,
    METHODS,
    NORMS,
    TAILS,
    eigenvalues,
    estimate,
    estimate_from_gram,
    pl_alpha_hill,
)
from alphadecay.spectral.gram import Gram, take_gram
from alphadecay.spectral.row import FIELDS, Estimate, EstimateRow, to_estimate
from alphadecay.spectral.scores import SCORES, gradient_norm, scores
from alphadecay.spectral.status import Status

__all__ = [
    "ESTIMATORS",
    "FIELDS",
    "GRAM_METHODS",
    "METHODS",
    "NORMS",
    "SCORES",
    "TAILS",
    "Estimate",
    "EstimateRow",
    "Gram",
    "Status",
    "eigenvalues",
    "estimate",
    "estimate_from_gram",
    "gradient_norm",
    "pl_alpha_hill",
    "scores",
    "take_gram",
    "to_estimate",
]
