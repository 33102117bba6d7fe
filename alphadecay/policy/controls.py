"""Controls: what an assignment must beat before its α can have the credit.

Dictionaries by module name in and out.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from alphadecay.policy.maps import usable


def inverted(alphas: Mapping[str, float]) -> dict[str, float]:
    """Mirror the scores, α ↦ α_min + α_max − α, to be assigned as usual: the same spread of decays,
    the opposite order.

    A score with a status stays as it is, and out of minimum and maximum.
    """
    scores = [score for score in alphas.values() if usable(score)]
    return {
        name: min(scores) + max(scores) - score if usable(score) else score
        for name, score in alphas.items()
    }


def shuffled(alphas: Mapping[str, float], seed: int) -> dict[str, float]:
    """Deal the scores out to other modules at random: the same decays, none where its α put it.

    A score with a status stays where it is. The result is a function of the seed and the scores by
    name, not of their order.
    """
    names = sorted(name for name in alphas if usable(alphas[name]))
    dealt = names.copy()
    random.Random(seed).shuffle(dealt)
    return {**alphas, **{name: alphas[other] for name, other in zip(names, dealt, strict=True)}}


def fixed_ratio(
    names: Sequence[str], weight_decay: float, ratios: Mapping[str, float]
) -> dict[str, float]:
    """η times one constant per module type: what is left of an assignment when only the type is
    known.

    Args: names of the modules; weight_decay η ≥ 0; ratios by shell pattern, such as
        {"*.q_proj.weight": 0.8}, the first match counts.
    Returns: decay by module name, in the order given.
    Errors: ValueError for a name no pattern matches, a pattern no name matches, or a negative or
        non-finite number.
    """
    for pattern, ratio in {**ratios, "weight_decay": weight_decay}.items():
        if not math.isfinite(ratio) or ratio < 0:
            raise ValueError(f"{pattern}: {ratio}: need a finite number ≥ 0")
    for pattern in ratios:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"pattern {pattern!r} matches none of {len(names)} modules; the first is "
                f"{next(iter(names), 'missing')}"
            )
    decays = {}
    for name in names:
        matching = [ratio for pattern, ratio in ratios.items() if fnmatchcase(name, pattern)]
        if not matching:
            raise ValueError(f"{name}: no pattern matches it; add one, or '*' at the end")
        decays[name] = weight_decay * matching[0]
    return decays


def uniform_at_mean(
    decays: Mapping[str, float], sizes: Mapping[str, int] | None = None
) -> dict[str, float]:
    """Every module at the mean decay of an assignment: the fair Uniform, for the linear map raises
    the mean above η.

    Args: decays by module name; sizes, if given, weigh the mean by the number of parameters of each
        module.
    Returns: the mean under every name, in the order given. Errors: ValueError for a module without
        a size, or sizes of sum 0.
    """
    missing = [name for name in decays if sizes is not None and name not in sizes]
    if missing:
        raise ValueError(f"{missing[0]}: no size given for it")
    weights = dict.fromkeys(decays, 1) if sizes is None else {name: sizes[name] for name in decays}
    total = sum(weights.values())
    if decays and total <= 0:
        raise ValueError(f"sizes sum to {total}: need a positive number of parameters")
    mean = (
        math.fsum(decay * weights[name] for name, decay in decays.items()) / total
        if decays
        else 0.0
    )
    return dict.fromkeys(decays, mean)


def ema(
    previous: Mapping[str, float], current: Mapping[str, float], memory: float
) -> dict[str, float]:
    """Exponential moving average of scores over refreshes: memory·previous + (1 − memory)·current.

    A module new to it, or with a status before, starts at its current score; one with a status now
    keeps the status.

    Args: memory in [0, 1); 0 is off. Returns: score by module name of `current`. Errors: ValueError
        for another memory.
    """
    if not 0 <= memory < 1:
        raise ValueError(f"memory={memory}: need 0 ≤ memory < 1")
    smoothed = dict(current)
    for name, score in current.items():
        if usable(score) and usable(previous.get(name)):
            smoothed[name] = memory * previous[name] + (1 - memory) * score
    return smoothed
