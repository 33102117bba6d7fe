"""The controls, by hand."""

from __future__ import annotations

import math

import pytest

from alphadecay.policy import (
    PUBLISHED_DEVIATIONS,
    assign_weight_decay,
    ema,
    fixed_ratio,
    inverted,
    shuffled,
    uniform_at_mean,
)

ALPHAS = {"a": 2.0, "b": 3.0, "c": 4.5, "d": math.nan}


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
