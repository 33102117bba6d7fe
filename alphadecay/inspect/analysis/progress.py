"""Says how far an analysis is, on a terminal's standard error and to nobody else."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from alphadecay.inspect.analysis.watching import Watcher

if TYPE_CHECKING:
    from alphadecay.inspect.analysis.spectrum import Spectrum


class Bar(Watcher):
    """A bar with the time left, which counts each weight by what it costs.

    Args:
        kept: the name of a weight of which the spectrum is kept.

    Attributes:
        spectrum: of that weight, once it is measured; None where a journal has its row.
    """

    def __init__(self, kept: str = "") -> None:
        self._kept = kept
        self.spectrum: Spectrum | None = None
        self._progress = Progress(
            TextColumn("{task.fields[count]}"),
            BarColumn(bar_width=None),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task("", total=None, count="")

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def begin(self, count: int, cost: float) -> None:
        """Begin with that many weights, which cost so much together."""
        self._count = count
        self._done = 0
        self._progress.reset(self._task, total=cost, count=f"0 of {count}")

    def measured(self, name: str, spectrum: Spectrum) -> None:
        """Keep the spectrum that is asked for."""
        if name == self._kept:
            self.spectrum = spectrum

    def advance(self, cost: float) -> None:
        """Note that a weight is done."""
        self._done += 1
        text = f"{self._done} of {self._count}"
        self._progress.update(self._task, advance=cost, count=text)
