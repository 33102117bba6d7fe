"""What AlphaDecay saves: one dict of plain numbers, keyed by weight name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from alphadecay.spectral import FIELDS, Estimate, to_estimate

VERSION = 2


def estimate_to_numbers(estimate: Estimate) -> dict[str, Any]:
    """Return an estimate as plain numbers."""
    return {**asdict(estimate), "status": int(estimate.status)}


def estimate_from_numbers(numbers: Mapping[str, Any]) -> Estimate:
    """Return the estimate that `estimate_to_numbers` wrote."""
    return to_estimate([float(numbers.get(field, 0.0)) for field in FIELDS])


def modules_to_numbers(
    estimates: Mapping[str, Estimate], ratios: Mapping[str, float], mapped: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Return every module's estimate, its ratio, and the alpha that the ratio comes from."""
    return {
        name: {
            **estimate_to_numbers(estimate),
            "ratio": ratios[name],
            "mapped_alpha": mapped[name],
        }
        for name, estimate in estimates.items()
    }


def fingerprint(state: Mapping[str, Any]) -> float:
    """Return a number that two states share only if they are the same."""
    digest = hashlib.sha256(json.dumps(state, sort_keys=True, default=str).encode()).digest()
    return float(int.from_bytes(digest[:6], "little"))


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
