"""Assignments, by hand."""

from __future__ import annotations

import math

import pytest

from alphadecay.policy import assign_weight_decay

ALPHAS = {"a": 2.0, "b": 3.0, "c": 4.0}


def test_linear_by_hand() -> None:
    assert assign_weight_decay(ALPHAS, 0.1, 0.5, 5.0) == pytest.approx(
        {"a": 0.05, "b": 0.275, "c": 0.5}
    )


def test_sqrt_and_log2_by_hand() -> None:
    mean = (math.sqrt(2) + math.sqrt(3) + 2) / 3
    assert assign_weight_decay(ALPHAS, 0.1, method="sqrt") == pytest.approx(
        {k: 0.1 * math.sqrt(v) / mean for k, v in ALPHAS.items()}
    )
    mean = (1 + math.log2(3) + 2) / 3
    assert assign_weight_decay(ALPHAS, 0.1, method="log2") == pytest.approx(
        {k: 0.1 * math.log2(v) / mean for k, v in ALPHAS.items()}
    )


def test_sigmoid_by_hand() -> None:
    z = 1 / math.sqrt(2 / 3)
    expected = {"a": 0.2 / (1 + math.exp(4 * z)), "b": 0.1, "c": 0.2 / (1 + math.exp(-4 * z))}
    assert assign_weight_decay(ALPHAS, 0.1, method="sigmoid") == pytest.approx(expected)


@pytest.mark.parametrize("method", ["linear", "sqrt", "log2", "sigmoid"])
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf, None])
def test_a_module_with_a_status_keeps_the_base_and_moves_nobody(method: str, broken: float) -> None:
    without = assign_weight_decay(ALPHAS, 0.1, method=method)
    assert assign_weight_decay({"x": broken, **ALPHAS}, 0.1, method=method) == {"x": 0.1, **without}


@pytest.mark.parametrize("method", ["linear", "sqrt", "log2", "sigmoid"])
def test_mean_preserving(method: str) -> None:
    decays = assign_weight_decay(ALPHAS, 0.1, method=method, mean_preserving=True)
    assert sum(decays.values()) / 3 == pytest.approx(0.1)
    assert decays["a"] < decays["b"] < decays["c"]


def test_equal_or_close_alphas_get_the_base() -> None:
    assert assign_weight_decay({"a": 2.0, "b": 2.0}, 0.1) == {"a": 0.1, "b": 0.1}
    assert assign_weight_decay(ALPHAS, 0.1, minimum_range=2.5) == dict.fromkeys(ALPHAS, 0.1)
    assert assign_weight_decay(ALPHAS, 0.1, minimum_range=1.5) != dict.fromkeys(ALPHAS, 0.1)
    assert assign_weight_decay({}, 0.1) == {}
    assert assign_weight_decay({"a": math.nan}, 0.1) == {"a": 0.1}


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="did you mean linear"):
        assign_weight_decay(ALPHAS, 0.1, method="linaer")
    for wrong in (
        {"weight_decay": -0.1},
        {"weight_decay": 0.1, "s1": -1.0},
        {"weight_decay": 0.1, "s1": 6.0},
        {"weight_decay": math.nan},
    ):
        with pytest.raises(ValueError, match=r"need|swap"):
            assign_weight_decay(ALPHAS, **wrong)
    with pytest.raises(ValueError, match="below"):
        assign_weight_decay({"a": 0.5, "b": 2.0}, 0.1, method="log2")
