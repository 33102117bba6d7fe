"""From every module's score to its ratio of the base decay, as the configuration says: the map, or
a control in its place.
"""

from __future__ import annotations

from collections.abc import Mapping

from alphadecay.config import AlphaDecayConfig
from alphadecay.policy.controls import fixed_ratio, inverted, shuffled, uniform_at_mean
from alphadecay.policy.maps import assign_weight_decay


def ratios_of(
    scores: Mapping[str, float], sizes: Mapping[str, int], config: AlphaDecayConfig
) -> dict[str, float]:
    """Return each module's multiple of its group's weight decay, in the order of `scores`.

    Args:
        scores: every module's alpha, smoothed where that is on; NaN where there is none.
        sizes: parameters of each module: the mean that "uniform_at_mean" keeps is per parameter.
        config: the map and its range, or the control.
    """
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
        c.s1,
        c.s2,
        c.assign,
        minimum_range=c.minimum_range,
        mean_preserving=c.mean_preserving,
    )
    return uniform_at_mean(ratios, sizes) if c.control == "uniform_at_mean" else ratios
