"""From every module's score to its decay, as the configuration says: the map, or a control in its
place.
"""

from __future__ import annotations

from collections.abc import Mapping

from alphadecay.config import AlphaDecayConfig
from alphadecay.policy import assign_weight_decay, fixed_ratio, inverted, shuffled, uniform_at_mean


def assign(
    scores: Mapping[str, float],
    base: Mapping[str, float],
    sizes: Mapping[str, int],
    config: AlphaDecayConfig,
) -> dict[str, float]:
    """Decay by module name, in the order of `scores`.

    Args:
        scores: every module's alpha, smoothed where that is on; NaN where there is none.
        base: the base decay of each module's own param group.
        sizes: parameters of each module: the mean that "uniform_at_mean" keeps is per parameter.
        config: the map and its range, or the control.
    """
    control = config.control
    if control == "fixed_ratio":
        return {
            name: base[name] * ratio
            for name, ratio in fixed_ratio(list(scores), 1.0, config.ratios or {}).items()
        }
    if control == "inverted":
        scores = inverted(scores)
    if control == "shuffled":
        scores = shuffled(scores, config.seed)
    by_base = {
        weight_decay: _map(scores, weight_decay, config)
        for weight_decay in sorted(set(base.values()))
    }
    assigned = {name: by_base[base[name]][name] for name in scores}
    return uniform_at_mean(assigned, sizes) if control == "uniform_at_mean" else assigned


def _map(
    scores: Mapping[str, float], weight_decay: float, config: AlphaDecayConfig
) -> dict[str, float]:
    c = config
    return assign_weight_decay(
        scores,
        weight_decay,
        c.s1,
        c.s2,
        c.assign,
        minimum_range=c.minimum_range,
        mean_preserving=c.mean_preserving,
    )
