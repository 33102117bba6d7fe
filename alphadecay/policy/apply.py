"""From every module's score to its ratio of the base decay, or of the learning rate, as the
configuration says: the map, or a control in its place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from alphadecay.config import AlphaDecayConfig
from alphadecay.policy.controls import fixed_ratio, inverted, shuffled, uniform_at_mean
from alphadecay.policy.maps import assign_weight_decay


def ratios_of(
    scores: Mapping[str, float], sizes: Mapping[str, int], config: AlphaDecayConfig
) -> dict[str, float]:
    """Return each module's multiple of its group's weight decay, in the order of `scores`; 1 where
    alpha drives the learning rate alone.

    Args:
        scores: every module's alpha, smoothed where that is on; NaN where there is none.
        sizes: parameters of each module: the mean that "uniform_at_mean" keeps is per parameter.
        config: the map and its range, or the control.
    """
    if config.drives == "lr":
        return dict.fromkeys(scores, 1.0)
    return _mapped(scores, sizes, config, config.s1, config.s2)


def rate_ratios_of(
    scores: Mapping[str, float], sizes: Mapping[str, int], config: AlphaDecayConfig
) -> dict[str, float]:
    """Return each module's multiple of its group's learning rate, by the same map or control (LLR,
    arXiv 2605.22297).
    """
    return _mapped(scores, sizes, config, config.lr_s1, config.lr_s2)


def _mapped(
    scores: Mapping[str, float],
    sizes: Mapping[str, int],
    config: AlphaDecayConfig,
    s1: float,
    s2: float,
) -> dict[str, float]:
    c = config
    if c.control == "fixed_ratio":
        return fixed_ratio(list(scores), 1.0, c.ratios or {})
    if c.control == "inverted":
        scores = inverted(scores)
    if c.control == "shuffled":
        scores = shuffled(scores, c.seed)
    ratios = assign_weight_decay(
        scores,
        1.0,
        s1,
        s2,
        c.assign,
        minimum_range=c.minimum_range,
        mean_preserving=c.mean_preserving,
    )
    return uniform_at_mean(ratios, sizes) if c.control == "uniform_at_mean" else ratios


def refuse_odd(ratios: Mapping[str, float]) -> None:
    """Refuse ratios that nothing can be multiplied by.

    Raises:
        ValueError: one is negative or not finite.
    """
    for name, ratio in ratios.items():
        if not (math.isfinite(ratio) and ratio >= 0):
            raise ValueError(f"ratio of {name} is {ratio}; a ratio is finite and not negative")
