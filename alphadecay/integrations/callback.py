"""What the callbacks of all frameworks share: options that are checked at once, figures to log."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter, Signature, signature
from math import fsum, isfinite
from typing import Any, TypeVar

from alphadecay.config import AlphaDecayConfig
from alphadecay.controller import AlphaDecay

Callback = TypeVar("Callback", bound=type)


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse what AlphaDecay would refuse, before there is a model.

    Raises:
        TypeError: an option that AlphaDecay does not have.
        ValueError: a choice that cannot work; the message says what to do.
    """
    signature(AlphaDecay).bind(None, None, **options)
    fields = AlphaDecayConfig.__dataclass_fields__
    AlphaDecayConfig(**{name: value for name, value in options.items() if name in fields})


def takes_the_options(callback: Callback) -> Callback:
    """Show AlphaDecay's own options in the callback's help and completion."""
    options = [
        parameter
        for parameter in signature(AlphaDecay).parameters.values()
        if parameter.kind is Parameter.KEYWORD_ONLY
    ]
    callback.__signature__ = Signature(options)  # type: ignore[attr-defined]
    return callback


def summary(decay: AlphaDecay) -> dict[str, float]:
    """Return the figures of a refresh: smallest, mean and largest alpha and decay, and seconds."""
    return {
        **_range("alphadecay/alpha", decay.alphas),
        **_range("alphadecay/weight_decay", decay.weight_decays),
        "alphadecay/refresh_seconds": decay.last_refresh_seconds,
    }


def _range(label: str, values: Mapping[str, float]) -> dict[str, float]:
    """Return smallest, mean and largest of the numbers; nothing where there are none."""
    finite = [value for value in values.values() if isfinite(value)]
    if not finite:
        return {}
    return {
        f"{label}_min": min(finite),
        f"{label}_mean": fsum(finite) / len(finite),
        f"{label}_max": max(finite),
    }
