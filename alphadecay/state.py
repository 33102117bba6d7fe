"""What AlphaDecay saves: one dict of plain numbers, keyed by weight name."""

from __future__ import annotations

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


def estimate_to_numbers(estimate: Estimate) -> dict[str, Any]:
    """Return an estimate as plain numbers."""
    return {**asdict(estimate), "status": int(estimate.status)}


def estimate_from_numbers(numbers: Mapping[str, Any]) -> Estimate:
    """Return the estimate that `estimate_to_numbers` wrote."""
    return to_estimate([float(numbers.get(field, 0.0)) for field in FIELDS])


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
