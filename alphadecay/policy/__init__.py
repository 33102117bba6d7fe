"""Scores -> ratios of the base decay: numbers in, numbers out."""

from alphadecay.policy.controls import ema, fixed_ratio, inverted, shuffled, uniform_at_mean
from alphadecay.policy.maps import MAPS, assign_weight_decay, usable
from alphadecay.policy.published import PUBLISHED_DEVIATIONS

__all__ = [
    "MAPS",
    "PUBLISHED_DEVIATIONS",
    "assign_weight_decay",
    "ema",
    "fixed_ratio",
    "inverted",
    "shuffled",
    "uniform_at_mean",
    "usable",
]
