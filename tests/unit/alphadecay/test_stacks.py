"""Grams of one side are solved once there are enough of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from alphadecay.sharding.replicated import Replicated
from alphadecay.spectral import EstimateRow, Gram, estimate_from_gram, take_gram
from alphadecay.stacks import Stacks
from tests.unit.alphadecay.spectral.matrices import gaussian

SIDES = {"a": 12, "b": 20, "c": 12, "d": 12, "e": 20}
GRAMS = {
    name: take_gram(gaussian(side, 24, ord(name)), torch.float64) for name, side in SIDES.items()
}


def test_they_are_solved_by_side_as_they_come() -> None:
    solved: list[list[int]] = []

    def solve(grams: Sequence[Gram]) -> list[EstimateRow]:
        solved.append([gram.matrix_KK.shape[-1] for gram in grams])
        return [estimate_from_gram(gram) for gram in grams]

    sharding = Replicated(torch.device("cpu"), None)
    stacks = Stacks(lambda side: 2 if side == 12 else 9, solve, sharding.attempt)
    for name, gram in GRAMS.items():
        stacks.add(name, gram)
    assert solved == [[12, 12]]
    rows = stacks.finish()
    assert solved == [[12, 12], [20, 20], [12]]
    assert set(rows) == set(GRAMS)
    for name, gram in GRAMS.items():
        assert torch.equal(rows[name].pack(), estimate_from_gram(gram).pack())


def test_an_error_names_the_modules() -> None:
    def solve(grams: Sequence[Gram]) -> list[EstimateRow]:
        raise torch.OutOfMemoryError("out of memory")

    sharding = Replicated(torch.device("cpu"), None)
    stacks = Stacks(lambda side: 3, solve, sharding.attempt)
    for name in ("a", "c", "d"):
        stacks.add(name, GRAMS[name])
    assert stacks.finish() == {}
    message = "could not measure a or one of 2 of its side: OutOfMemoryError: out of memory"
    with pytest.raises(RuntimeError, match=message):
        sharding.share(torch.zeros(1, 1))
