"""Properties of every assignment."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphadecay.policy import MAPS, assign_weight_decay

scores = st.one_of(st.floats(1.0, 1e6), st.sampled_from([math.nan, math.inf, -math.inf, None]))
names = st.text("abcdef.", min_size=1, max_size=5)
tables = st.dictionaries(names, scores, max_size=8)
MODEST = settings(max_examples=150, deadline=None)


@MODEST
@given(tables, st.randoms(), st.sampled_from(sorted(MAPS)), st.booleans())
def test_order_is_irrelevant(
    table: dict[str, float], source: object, method: str, mean: bool
) -> None:
    items = list(table.items())
    source.shuffle(items)  # type: ignore[attr-defined]
    ours = assign_weight_decay(table, 0.1, method=method, mean_preserving=mean)
    assert assign_weight_decay(dict(items), 0.1, method=method, mean_preserving=mean) == ours


@MODEST
@given(tables, st.sampled_from(sorted(MAPS)), st.booleans(), st.floats(0, 10))
def test_every_decay_is_finite_and_not_negative(
    table: dict[str, float], method: str, mean: bool, decay: float
) -> None:
    decays = assign_weight_decay(table, decay, method=method, mean_preserving=mean)
    assert list(decays) == list(table)
    assert all(math.isfinite(value) and value >= 0 for value in decays.values())


@MODEST
@given(
    st.dictionaries(names, st.floats(1.0, 1e3), min_size=2, max_size=8),
    st.sampled_from(sorted(MAPS)),
)
def test_a_larger_score_never_gets_less(table: dict[str, float], method: str) -> None:
    decays = assign_weight_decay(table, 0.1, method=method)
    ordered = [decays[name] for name in sorted(table, key=lambda name: table[name])]
    assert ordered == sorted(ordered)


@MODEST
@given(
    st.dictionaries(names, st.floats(1.0, 1e3), min_size=2, max_size=8),
    st.sampled_from(sorted(MAPS)),
)
def test_mean_preserving_keeps_the_mean(table: dict[str, float], method: str) -> None:
    decays = assign_weight_decay(table, 0.1, method=method, mean_preserving=True)
    assert math.fsum(decays.values()) / len(decays) == pytest.approx(0.1, rel=1e-9)
