"""Shows how far a preparation is: a bar on a terminal, a line every few seconds elsewhere.

All of it goes to stderr.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

SECONDS_BETWEEN_LINES = 5.0
SELDOM = 60.0  # where a run has lines of its own


class Progress:
    """Counts documents and tokens and shows them; a context manager.

    Args:
        title: what is being done.
        report: takes lines instead of stderr; given, no bar is drawn.
        expected: documents to come, 0 if unknown.
        seldom: leave a minute between two lines.
    """

    def __init__(
        self,
        title: str,
        report: Callable[[str], None] | None,
        expected: int = 0,
        seldom: bool = False,
    ) -> None:
        self.title = title
        self.expected = expected
        self.documents = 0
        self.tokens = 0
        self._seconds = SELDOM if seldom else SECONDS_BETWEEN_LINES
        self._report = report
        self._bar = None
        self._started = self._last = time.monotonic()
        if report is None and sys.stderr.isatty():
            self._bar = _rich_bar()

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self.title, total=self.expected or None, counts="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, documents: int, tokens: int) -> None:
        """Add to the counts and show them when it is time."""
        self.documents += documents
        self.tokens += tokens
        if self._bar is not None:
            self._bar.update(self._task, completed=self.documents, counts=self._counts())
        elif time.monotonic() - self._last >= self._seconds:
            self._last = time.monotonic()
            self.say(f"{self.title}: {self._counts()}, {self._last - self._started:.0f} s")

    def say(self, line: str) -> None:
        """Show one line."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        elif self._report is not None:
            self._report(line)
        else:
            print(line, file=sys.stderr, flush=True)

    def _counts(self) -> str:
        of = f" of {self.expected:,}" if self.expected else ""
        return f"{self.documents:,}{of} documents, {self.tokens / 1e6:.2f} M tokens"


def _rich_bar():  # type: ignore[no-untyped-def]
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(),
    ]
    return RichProgress(*columns, console=Console(stderr=True))
