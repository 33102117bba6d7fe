"""How the Grams of one side are made and solved together, by method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

import torch

from alphadecay.config import AlphaDecayConfig
from alphadecay.spectral import GRAM_METHODS, EstimateRow, Gram, estimate_from_gram
from alphadecay.spectral.moments import matrices_together
from alphadecay.spectral.solving import SOLVERS, Way, in_parts

MEMORY_SHARE = 12  # of a GPU's memory, one part in this many is taken for products
CPU_MEMORY = 2**28  # bytes; more together gains nothing there


class GramSolver(Protocol):
    """This solves Grams of one side."""

    def precision(self, side: int, least: torch.dtype) -> torch.dtype:
        """Return what the Grams of a side are taken in: float32 or float64, at least `least`."""

    def together(self, side: int) -> int:
        """Return how many of a side to hold before they are solved."""

    def rows(self, grams: Sequence[Gram]) -> list[EstimateRow]:
        """Return the rows of Grams of one side, in their order."""


class ByEigenvalues:
    """The spectrum of each, by `eigvalsh`, in the way that is fastest on the device.

    Args:
        ways: by side; float32 and one by one where a side has none.
    """

    def __init__(self, config: AlphaDecayConfig, ways: Mapping[int, Way]) -> None:
        self.ways = ways
        self._searched = config.tail != "hill"  # float32 noise can move what a search picks
        self._solve = partial(estimate_from_gram, tail=config.tail, published=config.published)

    def precision(self, side: int, least: torch.dtype) -> torch.dtype:
        if self._searched or least is torch.float64:
            return torch.float64
        return self._way(side).precision

    def together(self, side: int) -> int:
        return self._way(side).together

    def rows(self, grams: Sequence[Gram]) -> list[EstimateRow]:
        return SOLVERS[self._way(grams[0].side).solver](grams, self._solve)

    def _way(self, side: int) -> Way:
        return self.ways.get(side, Way())


class WithoutSpectrum:
    """All at once by a method of GRAM_METHODS, in float64, as many as the memory is good for."""

    def __init__(self, config: AlphaDecayConfig, device: torch.device) -> None:
        self._rows = partial(GRAM_METHODS[config.method], published=config.published)
        self._memory = CPU_MEMORY
        if device.type == "cuda":
            total = torch.cuda.get_device_properties(device).total_memory
            self._memory = total // MEMORY_SHARE

    def precision(self, side: int, least: torch.dtype) -> torch.dtype:
        return torch.float64

    def together(self, side: int) -> int:
        return matrices_together(side, self._memory)

    def rows(self, grams: Sequence[Gram]) -> list[EstimateRow]:
        return in_parts(self._rows, grams)
