"""The published estimator's figures on one deterministic LLaMA, which every checkout beside
../shared can reproduce.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alphadecay.policy import assign_weight_decay
from alphadecay.spectral import SCORES, estimate, scores

FIGURES = Path(__file__).resolve().parents[2].parent / "shared" / "golden" / "published_alphas.json"
TAILS = {"median": "hill", "goodness-of-fit": "goodness_of_fit", "fix-finger": "fix_finger"}
MAPS = {"tb_sqrt": "sqrt", "tb_log2": "log2"}
SCORE_NAMES = {
    "spectral_norm": "spectral_norm",
    "fnorm": "frobenius_norm",
    "stable_rank": "stable_rank",
    "entropy": "entropy",
    "alphahat": "alpha_hat",
}
FITS = (
    *(f"{tail}, first linear {what}" for tail in TAILS for what in ("dropped", "kept")),
    "median, tb_sqrt",
    "median, tb_log2",
)

pytestmark = pytest.mark.skipif(not FIGURES.exists(), reason="../shared/golden is not there")


@cache
def figures() -> dict[str, Any]:
    return json.loads(FIGURES.read_text())


@cache
def weights() -> dict[str, torch.Tensor]:
    """The matrices of the README beside the figures, without transformers: a LLaMA's parameters in
    sorted order of name.
    """
    model = figures()["model"]
    hidden = model["hidden"]
    inner = model["inter"]
    shapes = {
        "model.embed_tokens.weight": (model["vocab"], hidden),
        "lm_head.weight": (model["vocab"], hidden),
    }
    for layer in range(model["layers"]):
        prefix = f"model.layers.{layer}"
        shapes |= {f"{prefix}.self_attn.{kind}_proj.weight": (hidden, hidden) for kind in "qkvo"}
        shapes |= {f"{prefix}.mlp.{kind}_proj.weight": (inner, hidden) for kind in ("gate", "up")}
        shapes[f"{prefix}.mlp.down_proj.weight"] = (hidden, inner)
    source = np.random.RandomState(model["seed"])
    result = {}
    for name in sorted(shapes):
        weight = source.standard_normal(shapes[name]) * 0.02
        if "layers" in name:
            columns = shapes[name][1]
            weight = weight * (np.arange(1, columns + 1) / columns) ** -source.uniform(0.05, 1.2)
        result[name] = torch.from_numpy(weight.astype(np.float32))
    return result


def test_every_figure_is_tested() -> None:
    assert set(figures()["fits"]) == set(FITS)
    assert {name for table in figures()["metrics"].values() for name in table} == set(SCORE_NAMES)


@pytest.mark.parametrize("method", ["gram", "svd"])
@pytest.mark.parametrize("fit", FITS)
def test_fits_and_assignments(fit: str, method: str) -> None:
    data = figures()
    expected = data["fits"][fit]
    tail, variant = fit.split(", ")
    fitted = torch.stack(
        [
            estimate(weights()[name], tail=TAILS[tail], method=method, published=True).alpha
            for name in expected
        ]
    )
    alphas = dict(zip(expected, fitted.tolist(), strict=True))
    decays = assign_weight_decay(
        alphas, data["weight_decay"], data["s1"], data["s2"], MAPS.get(variant, "linear")
    )
    assert alphas == pytest.approx(
        {name: entry["alpha"] for name, entry in expected.items()}, rel=1e-4
    )
    assert decays == pytest.approx(
        {name: entry["weight_decay"] for name, entry in expected.items()}, rel=1e-3
    )


def test_scores() -> None:
    for name, expected in figures()["metrics"].items():
        ours = dict(zip(SCORES, scores(weights()[name], published=True).tolist(), strict=True))
        assert {theirs: ours[SCORE_NAMES[theirs]] for theirs in expected} == pytest.approx(
            expected, rel=1e-4
        ), name


def test_the_default_differs_where_it_says_so() -> None:
    weight = weights()["model.layers.0.mlp.up_proj.weight"]
    default = estimate(weight)[0].item()
    published = estimate(weight, published=True)[0].item()
    assert 1e-4 < published / default - 1 < 0.05
    assert not torch.allclose(scores(weight), scores(weight, published=True), rtol=1e-4)
