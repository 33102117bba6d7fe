"""What AlphaDecay saves: one dict of plain numbers, keyed by weight name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from alphadecay.spectral import FIELDS, Estimate, to_estimate

VERSION = 2


def to_numbers(estimates: Mapping[str, Estimate], **more: Mapping[str, float]) -> dict[str, Any]:
    """Return every module's estimate as plain numbers, by name, with further numbers of each."""
    return {
        name: {
            **asdict(estimate),
            "status": int(estimate.status),
            **{key: values[name] for key, values in more.items()},
        }
        for name, estimate in estimates.items()
    }


def to_estimates(numbers: Mapping[str, Any], names: Iterable[str]) -> dict[str, Estimate]:
    """Return the estimates that `to_numbers` wrote, in the order of `names`."""
    return {
        name: to_estimate([float(numbers[name].get(field, 0.0)) for field in FIELDS])
        for name in names
    }


def fingerprint(state: Mapping[str, Any]) -> list[float]:
    """Return numbers that two states share only if they are the same."""
    digest = hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).digest()
    return list(map(float, digest))


def why_not_loadable(state: Mapping[str, Any], names: Iterable[str]) -> str:
    """Say why a state cannot be loaded into a model of these modules; empty where it can."""
    if state.get("version") == 1:
        return (
            "AlphaDecay state has version 1, which holds decays and not ratios of the optimizer's; "
            "go on without it: a refresh at the start measures the weights again"
        )
    if state.get("version") != VERSION:
        return f"AlphaDecay state has version {state.get('version')}, this library reads {VERSION}"
    own = set(names)
    saved = set(state["modules"])
    if saved == own:
        return ""
    missing = sorted(own - saved)[:3]
    extra = sorted(saved - own)[:3]
    return (
        f"AlphaDecay state is another model's: without {missing}, with {extra}; load it into the "
        "model it was saved from"
    )
