"""Ratios between two refreshes: the straight line, and that it is a function of the step."""

from __future__ import annotations

import pytest

from alphadecay.policy.ramp import Ramp


def test_it_goes_in_a_straight_line_from_one_to_the_target() -> None:
    ramp = Ramp(4)
    ramp.aim({"a": 3.0, "b": 1.0}, 1)
    found = [ramp.at(step)["a"] for step in range(7)]
    assert found == [1.0, 1.5, 2.0, 2.5, 3.0, 3.0, 3.0]
    assert all(ramp.at(step)["b"] == 1.0 for step in range(7))


def test_a_turn_on_the_way_begins_where_it_is() -> None:
    ramp = Ramp(4)
    ramp.aim({"a": 5.0}, 1)
    ramp.aim({"a": 1.0}, 3)  # after step 2, at 3
    assert [ramp.at(step)["a"] for step in range(2, 8)] == [3.0, 2.5, 2.0, 1.5, 1.0, 1.0]
    ramp.aim({"a": 1.0}, 3)  # the same turn once more changes nothing
    assert ramp.at(4)["a"] == 2.0


def test_without_length_it_is_there_at_once() -> None:
    ramp = Ramp(0)
    assert ramp.at(1) == {}
    ramp.aim({"a": 5.0}, 1)
    assert ramp.at(1) == {"a": 5.0}


@pytest.mark.parametrize("step", [2, 5])
def test_what_is_saved_goes_on_to_the_bit(step: int) -> None:
    ramp = Ramp(7)
    ramp.aim({"a": 5.3}, 1)
    ramp.aim({"a": 0.1}, 4)
    other = Ramp(7)
    other.load_state_dict(ramp.state_dict())
    assert [other.at(step + k) for k in range(9)] == [ramp.at(step + k) for k in range(9)]
    ramp.aim({"a": 2.0}, step + 1)
    other.aim({"a": 2.0}, step + 1)
    assert other.at(step + 3) == ramp.at(step + 3)
