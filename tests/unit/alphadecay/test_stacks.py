"""Grams of one side are solved once there are enough of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from alphadecay.config import AlphaDecayConfig
from alphadecay.gram_solvers import ByEigenvalues
from alphadecay.sharding.replicated import Replicated
from alphadecay.spectral import EstimateRow, Gram, estimate_from_gram, take_gram
from alphadecay.stacks import Stacks
from tests.unit.alphadecay.spectral.matrices import gaussian

SIDES = {"a": 12, "b": 20, "c": 12, "d": 12, "e": 20}
GRAMS = {
    name: take_gram(gaussian(side, 24, ord(name)), torch.float64) for name, side in SIDES.items()
}


class Recorder(ByEigenvalues):
    """Solves one by one, two of side 12 and nine of any other together, and keeps what it got."""

    def __init__(self) -> None:
        super().__init__(AlphaDecayConfig(), {})
        self.solved: list[list[int]] = []

    def together(self, side: int) -> int:
        return 2 if side == 12 else 9

    def rows(self, grams: Sequence[Gram]) -> list[EstimateRow]:
        self.solved.append([gram.side for gram in grams])
        return super().rows(grams)


def test_they_are_solved_by_side_as_they_come() -> None:
    sharding = Replicated(torch.device("cpu"), None)
    solver = Recorder()
    stacks = Stacks(solver, sharding.attempt)
    for name, gram in GRAMS.items():
        stacks.add(name, gram)
    assert solver.solved == [[12, 12]]
    rows = stacks.finish()
    assert solver.solved == [[12, 12], [20, 20], [12]]
    assert set(rows) == set(GRAMS)
    for name, gram in GRAMS.items():
        assert torch.equal(rows[name].pack(), estimate_from_gram(gram).pack())


class Failing(Recorder):
    """Has no memory."""

    def rows(self, grams: Sequence[Gram]) -> list[EstimateRow]:
        raise torch.OutOfMemoryError("out of memory")


def test_an_error_names_the_modules() -> None:
    sharding = Replicated(torch.device("cpu"), None)
    stacks = Stacks(Failing(), sharding.attempt)
    for name in ("b", "e"):
        stacks.add(name, GRAMS[name])
    assert stacks.finish() == {}
    message = "could not measure b or e: OutOfMemoryError: out of memory"
    with pytest.raises(RuntimeError, match=message):
        sharding.share(torch.zeros(1, 1))
