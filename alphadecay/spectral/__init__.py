"""Spectra of weight matrices: tensors in, tensors out."""

from alphadecay.spectral.estimate import FIELDS, Estimate, estimate, estimate_from_gram, pl_alpha_hill, to_estimate
from alphadecay.spectral.gram import take_gram
from alphadecay.spectral.status import Status

__all__ = ["FIELDS", "Estimate", "Status", "estimate", "estimate_from_gram", "pl_alpha_hill", "take_gram", "to_estimate"]
