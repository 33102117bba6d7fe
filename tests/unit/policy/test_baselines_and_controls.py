"""AWD, AdaDecay and the controls, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from alphadecay.policy import (
    PUBLISHED_DEVIATIONS,
    adadecay_modules,
    adadecay_parameters,
    assign_weight_decay,
    awd,
    ema,
    fixed_ratio,
    inverted,
    shuffled,
    uniform_at_mean,
)

ALPHAS = {"a": 2.0, "b": 3.0, "c": 4.5, "d": math.nan}


def test_awd_by_hand() -> None:
    first = awd(1e-3, gradient_norm=0.5, weight_norm=20.0)
    assert first == pytest.approx(100 * 1e-3 * 0.5 / 20)
    assert awd(1e-3, 1.0, 20.0, first) == pytest.approx(0.1 * first + 0.9 * 100 * 1e-3 / 20)
    assert awd(1e-3, 1.0, 20.0, scale=50.0) == pytest.approx(50 * 1e-3 / 20)


@pytest.mark.parametrize(
    ("gradient", "weight"),
    [(math.nan, 1.0), (math.inf, 1.0), (1.0, 0.0), (1.0, math.nan), (1e300, 1e-300)],
)
def test_awd_survives_an_overflowed_step(gradient: float, weight: float) -> None:
    assert awd(0.1, gradient, weight) == 0.1
    assert awd(0.1, gradient, weight, 0.03) == 0.03
    with pytest.raises(ValueError, match="need"):
        awd(-0.1, 1.0, 1.0)


def test_adadecay_standardises_within_each_layer() -> None:
    norms = {"0.q": 1.0, "0.k": 3.0, "1.q": 100.0, "1.k": 100.0, "2.q": math.nan, "2.k": 5.0}
    decays = adadecay_modules(norms, {name: name[0] for name in norms}, 0.1)
    assert decays["0.q"] == pytest.approx(0.2 / (1 + math.exp(4)))
    assert decays["0.k"] == pytest.approx(0.2 / (1 + math.exp(-4)))
    assert [decays[name] for name in ("1.q", "1.k", "2.q", "2.k")] == [0.1] * 4
    with pytest.raises(ValueError, match=r"0\.q"):
        adadecay_modules(norms, {}, 0.1)


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_adadecay_per_parameter(scale: float) -> None:
    gradient = torch.tensor([[1.0, -2.0], [3.0, -6.0]], dtype=torch.float64)
    magnitude = gradient.abs()
    z = (magnitude - magnitude.mean()) / magnitude.std(correction=0)
    expected = 0.1 * 2 / (1 + torch.exp(-4 * z))
    assert torch.allclose(adadecay_parameters(gradient * scale, 0.1), expected, rtol=1e-9)
    assert torch.allclose(
        adadecay_parameters((gradient * scale).float(), 0.1).double(), expected, rtol=1e-4
    )


@pytest.mark.parametrize(
    "gradient",
    [
        torch.zeros(5),
        torch.full((5,), 3.0),
        torch.tensor([1.0, math.nan]),
        torch.tensor([1.0, math.inf]),
    ],
)
def test_adadecay_without_information_is_the_base(gradient: torch.Tensor) -> None:
    assert torch.equal(adadecay_parameters(gradient, 0.1), torch.full_like(gradient, 0.1))


def test_inverted_mirrors() -> None:
    mirrored = inverted(ALPHAS)
    assert [mirrored[name] for name in "abc"] == pytest.approx([4.5, 3.5, 2.0]) and math.isnan(
        mirrored["d"]
    )
    assert assign_weight_decay(mirrored, 0.1)["a"] == pytest.approx(0.5)


def test_shuffled_is_a_function_of_seed_and_names() -> None:
    alphas = {f"m{index}": float(index) for index in range(12)} | {"status": math.nan}
    dealt = shuffled(alphas, 1)
    assert sorted(dealt[name] for name in alphas if name != "status") == [
        float(index) for index in range(12)
    ]
    assert math.isnan(dealt["status"]) and list(dealt) == list(alphas)
    backwards = shuffled(dict(reversed(alphas.items())), 1)
    assert all(backwards[name] == dealt[name] for name in alphas if name != "status")
    assert shuffled(alphas, 2) != dealt


def test_fixed_ratio_fails_when_a_pattern_or_a_name_is_left_over() -> None:
    names = ["0.q_proj.weight", "0.up_proj.weight"]
    assert fixed_ratio(names, 0.1, {"*q_proj*": 0.5, "*": 2.0}) == pytest.approx(
        {names[0]: 0.05, names[1]: 0.2}
    )
    with pytest.raises(ValueError, match="matches none"):
        fixed_ratio(names, 0.1, {"*k_proj*": 0.5, "*": 2.0})
    with pytest.raises(ValueError, match="up_proj"):
        fixed_ratio(names, 0.1, {"*q_proj*": 0.5})
    with pytest.raises(ValueError, match="need"):
        fixed_ratio(names, 0.1, {"*": -0.5})


def test_uniform_at_mean() -> None:
    assert uniform_at_mean({"a": 0.1, "b": 0.3}) == pytest.approx({"a": 0.2, "b": 0.2})
    assert uniform_at_mean({"a": 0.1, "b": 0.3}, {"a": 3, "b": 1}) == pytest.approx(
        {"a": 0.15, "b": 0.15}
    )
    assert uniform_at_mean({}) == {}
    with pytest.raises(ValueError, match="b: no size"):
        uniform_at_mean({"a": 0.1, "b": 0.3}, {"a": 3})


def test_ema() -> None:
    smoothed = ema(
        {"a": 4.0, "b": math.nan, "c": 2.0}, {"a": 2.0, "b": 3.0, "c": math.nan, "new": 5.0}, 0.75
    )
    assert (smoothed["a"], smoothed["b"], smoothed["new"]) == pytest.approx(
        (3.5, 3.0, 5.0)
    ) and math.isnan(smoothed["c"])
    assert ema({"a": 4.0}, {"a": 2.0}, 0.0) == {"a": 2.0}
    with pytest.raises(ValueError, match="memory"):
        ema({}, {}, 1.0)


def test_deviations_are_sentences() -> None:
    assert {
        "tail index",
        "minimum of 50 eigenvalues",
        "first Linear dropped",
        "nothing exempt from decay",
    } <= set(PUBLISHED_DEVIATIONS)
    assert all(
        sentence.endswith(".") and len(sentence) > 30 for sentence in PUBLISHED_DEVIATIONS.values()
    )
