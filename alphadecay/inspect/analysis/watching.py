"""Who wants to know how far an analysis is; by default nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alphadecay.inspect.analysis.spectrum import Spectrum


class Watcher:
    """It is told of each weight that is done."""

    def begin(self, count: int, cost: float) -> None:
        """Begin with that many weights, which cost so much together."""

    def measured(self, name: str, spectrum: Spectrum) -> None:
        """Note the spectrum of a weight; those of a journal are not measured again."""

    def advance(self, cost: float) -> None:
        """Note that a weight is done."""
