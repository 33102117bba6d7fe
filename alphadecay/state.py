"""What AlphaDecay saves: one dict of plain numbers, keyed by weight name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from alphadecay.spectral import FIELDS, Estimate, to_estimate

VERSION = 2
# Where version 0.1 kept a param group's decay while it left 0 in `weight_decay`.
_BASE_KEY_OF_0_1 = "base_weight_decay"


def give_back_base(param_groups: Iterable[dict[str, Any]]) -> None:
    """Put the groups' own decay back that a checkpoint of version 0.1 brought under another key."""
    for group in param_groups:
        if _BASE_KEY_OF_0_1 in group:
            group["weight_decay"] = group.pop(_BASE_KEY_OF_0_1)


def in_todays_form(state: Mapping[str, Any], base: Mapping[str, float]) -> Mapping[str, Any]:
    """Return a state of version 1, which held decays, with ratios; any other as it is.

    Args:
        base: every module's own group's weight decay.
    """
    if state.get("version") != 1 or not set(state["modules"]) <= set(base):
        return state
    modules = {
        name: {**saved, "ratio": saved["weight_decay"] / base[name] if base[name] else 1.0}
        for name, saved in state["modules"].items()
    }
    return {**state, "version": VERSION, "modules": modules}


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


def loadable(
    state: Mapping[str, Any], base: Mapping[str, float], names: Iterable[str]
) -> Mapping[str, Any]:
    """Return a state in today's form that a model of these modules can take.

    Args:
        base: every module's own group's weight decay.

    Raises:
        ValueError: it is of another version or another model's.
    """
    state = in_todays_form(state, base)
    if problem := why_not_loadable(state, names):
        raise ValueError(problem)
    return state


def why_not_loadable(state: Mapping[str, Any], names: Iterable[str]) -> str:
    """Say why a state cannot be loaded into a model of these modules; empty where it can."""
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
