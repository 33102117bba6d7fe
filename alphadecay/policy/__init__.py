"""Scores -> decays: numbers in, numbers out."""

from alphadecay.policy.assign import MAPS, assign_weight_decay, usable
from alphadecay.policy.baselines import adadecay_modules, adadecay_parameters, awd
from alphadecay.policy.controls import ema, fixed_ratio, inverted, shuffled, uniform_at_mean
from alphadecay.policy.published import PUBLISHED_DEVIATIONS

__all__ = [
    "MAPS",
    "PUBLISHED_DEVIATIONS",
    "adadecay_modules",
    "adadecay_parameters",
    "assign_weight_decay",
    "awd",
    "ema",
    "fixed_ratio",
    "inverted",
    "shuffled",
    "uniform_at_mean",
    "usable",
]
