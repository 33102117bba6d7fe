"""A setting's range stands on its field, and every check is made from it."""

from __future__ import annotations

import dataclasses
import math
import typing
from typing import Any

import pytest

from train.config import TrainConfig
from train.config.agreements import out_of_range
from train.config.key_registry import known_keys, range_of
from train.config.ranges import Range, at_least, explain, greater_than, within

# Numbers that may be anything: s2 is bounded by s1, a shuffle takes any seed.
WITHOUT_RANGE = {"decay.s2", "decay.lr_s2", "decay.seed"}


def numeric(kind: Any) -> bool:
    return bool({int, float} & {kind, *typing.get_args(kind)})


def changed(key: str, value: float) -> TrainConfig:
    """The defaults with one other value."""
    section, _, leaf = key.rpartition(".")
    config = TrainConfig()
    own = dataclasses.replace(getattr(config, section), **{leaf: value})
    return dataclasses.replace(config, **{section: own})


def test_every_number_has_a_range_or_is_known_to_have_none():
    numbers = {key for key, kind in known_keys().items() if numeric(kind)}
    assert {key for key in numbers if range_of(key) is None} == WITHOUT_RANGE
    assert all(range_of(key) is None for key in known_keys().keys() - numbers)


@pytest.mark.parametrize(
    ("allowed", "inside", "outside", "words"),
    [
        (at_least(1), [1, 2], [0, -1, 0.999], "at least 1"),
        (greater_than(0), [1e-12, 5], [0, -1e-12], "greater than 0"),
        (within(0, 1), [0, 0.5, 1], [-1e-9, 1.0001], "in [0, 1]"),
        (within(0, 0.5, low_open=True), [1e-9, 0.5], [0, 0.51], "in (0, 0.5]"),
        (within(0, 1, high_open=True), [0, 0.999], [1, -0.1], "in [0, 1)"),
        (Range(), [-5, 0, 1e300], [], "a finite number"),
    ],
)
def test_a_range(allowed, inside, outside, words):
    assert allowed.describe() == words
    for number in inside:
        assert explain(number, allowed) == ""
    for number in outside:
        assert explain(number, allowed) == words
    for number in (math.inf, -math.inf, math.nan):
        assert explain(number, allowed) == "a finite number"


def test_words_beside_a_number_and_switches_have_no_range():
    assert explain("auto", greater_than(0)) == explain(False, at_least(1)) == ""


@pytest.mark.parametrize(
    "key", [key for key in known_keys() if range_of(key) is not None], ids=lambda key: key
)
def test_a_value_beyond_its_range_is_found_under_its_key(key):
    allowed = range_of(key)
    beyond = allowed.low if allowed.low_open else allowed.low - 1
    assert [wrong.key for wrong in out_of_range(changed(key, beyond))] == [key]
    just_within = allowed.low + (1e-3 if allowed.low_open else 0)
    assert list(out_of_range(changed(key, just_within))) == []
