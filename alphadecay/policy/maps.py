"""Scores of modules -> their weight decays: dictionaries of floats in and out."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping

SIGMOID_STEEPNESS = 4.0


def usable(score: float | None) -> bool:
    """Whether a module takes part: its score is a finite number.

    Otherwise it has a status, and keeps the base decay.
    """
    return score is not None and math.isfinite(score)


def _linear(scores: list[float], s1: float, s2: float) -> list[float]:
    low = min(scores)
    high = max(scores)
    return [(score - low) / (high - low) * (s2 - s1) + s1 for score in scores]


def _over_mean(values: list[float]) -> list[float]:
    mean = math.fsum(values) / len(values)
    return [value / mean for value in values]


def _sqrt(scores: list[float], s1: float, s2: float) -> list[float]:
    return _over_mean([math.sqrt(score) for score in scores])


def _log2(scores: list[float], s1: float, s2: float) -> list[float]:
    return _over_mean([math.log2(score) for score in scores])


def standardise(values: list[float]) -> list[float]:
    """z-scores with the population standard deviation; all 0 where the values are equal."""
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    return [(value - mean) / deviation if deviation > 0 else 0.0 for value in values]


def sigmoid_factor(z: float) -> float:
    """2/(1 + e^(−4z)), in (0, 2), without overflow."""
    half = math.tanh(SIGMOID_STEEPNESS * z / 2)
    return 1 + half


def _sigmoid(scores: list[float], s1: float, s2: float) -> list[float]:
    return [sigmoid_factor(z) for z in standardise(scores)]


MAPS: dict[str, Callable[[list[float], float, float], list[float]]] = {
    "linear": _linear,
    "sqrt": _sqrt,
    "log2": _log2,
    "sigmoid": _sigmoid,
}
LEAST_SCORE = {"sqrt": 0.0, "log2": 1.0}  # α > 1, so a smaller score is not an α


def _check(weight_decay: float, s1: float, s2: float, method: str, minimum_range: float) -> None:
    if method not in MAPS:
        near = difflib.get_close_matches(method, MAPS, n=2, cutoff=0.3) or list(MAPS)
        raise ValueError(
            f"method={method!r} is unknown: did you mean {' or '.join(near)}? There are "
            f"{', '.join(MAPS)}"
        )
    for name, value in (
        ("weight_decay", weight_decay),
        ("s1", s1),
        ("s2", s2),
        ("minimum_range", minimum_range),
    ):
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"{name}={value}: need a finite number ≥ 0")
    if s1 > s2:
        raise ValueError(
            f"s1={s1} > s2={s2}: s1 multiplies the decay of the smallest α, s2 that of the "
            "largest; swap them"
        )


def assign_weight_decay(
    alphas: Mapping[str, float],
    weight_decay: float,
    s1: float = 0.67,
    s2: float = 5.0,
    method: str = "linear",
    *,
    minimum_range: float = 0.0,
    mean_preserving: bool = False,
) -> dict[str, float]:
    """Each module's weight decay from its α, in float64 and whatever the order of the modules
    (AlphaDecay, arXiv 2506.14562).

    linear: η·[(α − α_min)/(α_max − α_min)·(s2 − s1) + s1];  sqrt: η·√α / mean √α;  log2: η·log2 α /
        mean log2 α;
    sigmoid: η·2/(1 + e^(−4z)), z the standardised score. η is `weight_decay`; s1 and s2 serve
        "linear" only.

    Args:
        alphas: score by module name. NaN, inf or None means a status: the module gets η and stays
            out of minimum, maximum and mean.
        weight_decay: η ≥ 0, the run's own, in the optimizer's unit.
        minimum_range: where α_max − α_min is below this, or is 0, every module gets η: a small
            range is mostly noise.
        mean_preserving: rescale the modules that take part so that their mean is η.
    Returns: decay by module name, in the order given; each is finite and ≥ 0.
    Errors: ValueError for an unknown method, a negative or non-finite number, s1 > s2, or a score
        outside the domain of the map.
    """
    _check(weight_decay, s1, s2, method, minimum_range)
    decays = dict.fromkeys(alphas, float(weight_decay))
    names = [name for name in alphas if usable(alphas[name])]
    scores = [float(alphas[name]) for name in names]
    if not scores or max(scores) == min(scores) or max(scores) - min(scores) < minimum_range:
        return decays
    least = LEAST_SCORE.get(method)
    if least is not None and min(scores) < least:
        worst = names[scores.index(min(scores))]
        raise ValueError(
            f"{worst}: score {min(scores)} is below {least}, which {method} cannot map; use linear "
            "or sigmoid"
        )
    factors = MAPS[method](scores, s1, s2)
    mean = math.fsum(factors) / len(factors) if mean_preserving else 1.0
    scale = 1 / mean if mean > 0 else 1.0
    decays.update(
        (name, weight_decay * (factor * scale)) for name, factor in zip(names, factors, strict=True)
    )
    return decays
