"""The controls in the place of AlphaDecay's map, on a small model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from alphadecay import AdamW, AlphaDecay

ETA = 0.1


def model() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(*(nn.Linear(32, width) for width in (48, 64, 96, 40)))


def decays(**choices: object) -> tuple[dict[str, float], dict[str, float]]:
    net = model()
    decay = AlphaDecay(net, AdamW(net.parameters(), lr=1e-3, weight_decay=ETA), **choices)
    return decay.alphas, decay.weight_decays


def test_inverted_gives_the_lightest_tail_the_weakest_decay() -> None:
    alphas, plain = decays()
    same, inverted = decays(control="inverted")
    assert same == alphas
    assert sorted(alphas, key=plain.get) == sorted(alphas, key=inverted.get, reverse=True)
    assert min(inverted.values()) == pytest.approx(0.67 * ETA) and max(
        inverted.values()
    ) == pytest.approx(5 * ETA)


def test_shuffled_has_the_same_decays_elsewhere() -> None:
    _, plain = decays()
    dealt = [decays(control="shuffled", seed=seed)[1] for seed in range(4)]
    assert all(sorted(found.values()) == sorted(plain.values()) for found in dealt)
    assert any(found != plain for found in dealt)
    assert dealt[1] == decays(control="shuffled", seed=1)[1]


def test_uniform_at_mean_keeps_the_mean_per_parameter() -> None:
    _, plain = decays()
    _, uniform = decays(control="uniform_at_mean")
    sizes = {name: p.numel() for name, p in model().named_parameters() if p.dim() == 2}
    mean = sum(plain[name] * sizes[name] for name in plain) / sum(sizes.values())
    assert all(decay == pytest.approx(mean) for decay in uniform.values())


def test_fixed_ratio_knows_names_only() -> None:
    _, fixed = decays(control="fixed_ratio", ratios={"0.*": 0.5, "*": 2.0})
    assert fixed == {"0.weight": 0.05, "1.weight": 0.2, "2.weight": 0.2, "3.weight": 0.2}


@pytest.mark.parametrize(("score", "order"), [("frobenius_norm", "fro"), ("spectral_norm", 2)])
def test_a_norm_in_the_place_of_alpha(score: str, order: str | int) -> None:
    scores, found = decays(score=score)
    norms = {
        name: float(torch.linalg.matrix_norm(p.double(), order))
        for name, p in model().named_parameters()
        if p.dim() == 2
    }
    assert scores == pytest.approx(norms, rel=1e-6)
    low = min(norms.values())
    high = max(norms.values())
    assert found == pytest.approx(
        {
            name: ETA * (0.67 + (norm - low) / (high - low) * (5 - 0.67))
            for name, norm in norms.items()
        },
        rel=1e-4,
    )


def test_a_norm_of_what_is_not_finite_leaves_the_base_decay() -> None:
    net = model()
    with torch.no_grad():
        net[1].weight[3, 4] = float("nan")
        net[2].weight.zero_()
    decay = AlphaDecay(
        net, AdamW(net.parameters(), lr=1e-3, weight_decay=ETA), score="frobenius_norm"
    )
    assert decay.statuses == {"1.weight": "not_finite", "2.weight": "zero"}
    assert decay.weight_decays["1.weight"] == decay.weight_decays["2.weight"] == ETA


@pytest.mark.parametrize(
    "choices",
    [
        {"control": "fixed_ratio"},
        {"ratios": {"*": 1.0}},
        {"control": "mirrored"},
        {"score": "rank"},
        {"score": "spectral_norm", "spread": 5},
    ],
)
def test_what_does_not_fit_together_is_refused(choices: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"control|ratios|score"):
        decays(**choices)
