"""Sets rows aside that cannot be used, and stops a preparation that has too many of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from train.errors import UserError

EARLY_CHECK_ROWS = 1000  # a share over fewer rows says too little to stop a long job before its end
EXAMPLES = 3


class BadCorpus(UserError):
    """The corpus itself must be mended first.

    Too many rows had to be set aside, or a file has none to use.
    """


def no_documents(file: str, bad: int, reason: str) -> BadCorpus:
    """Return the error of a file that was read to its end and gave nothing."""
    detail = f"; {bad} rows were set aside ({reason})" if bad else ""
    return BadCorpus(
        f"{file} holds no documents{detail}. Get it again or take it out of the configuration."
    )


class Quarantine:
    """Counts rows and writes the bad ones as JSON lines.

    A line has file, line (1-based, 0 for a whole file), reason, and rows where it stands for
    several.

    Args:
        write: takes each line; None only counts.
        max_bad_fraction: largest tolerated share of bad rows, in [0, 1].
        shown_path: where the user will find the lines, for messages; None names no file.
        key: the setting of max_bad_fraction.
    """

    def __init__(
        self,
        write: Callable[[bytes], Any] | None,
        max_bad_fraction: float,
        shown_path: Path | None = None,
        key: str = "data.max_bad_fraction",
    ) -> None:
        self.rows = 0
        self.reasons: Counter[str] = Counter()
        self.last_reason = ""
        self.max_bad_fraction = max_bad_fraction
        self.shown_path = shown_path
        self.key = key
        self._write = write
        self._examples: dict[str, str] = {}

    @property
    def set_aside(self) -> int:
        """Rows set aside so far."""
        return self.reasons.total()

    def accept(self, count: int = 1) -> None:
        """Count good rows."""
        before = self.rows
        self.rows = self.rows + count
        # A burst of bad rows at 999 must not hide behind the next good ones.
        if before < EARLY_CHECK_ROWS <= self.rows:
            self._check(self.set_aside, EARLY_CHECK_ROWS)

    def reject(self, file: str, line: int, reason: str, count: int = 1) -> None:
        """Count bad rows and write them down.

        Raises:
            BadCorpus: the share is too high, and enough rows were read to tell.
        """
        self.rows += count
        self.reasons[reason] += count
        self.last_reason = reason
        self._examples.setdefault(
            reason, f"{file}:{line}: {reason}" if line else f"{file}: {reason}"
        )
        if self._write is not None:
            record = {"file": file, "line": line, "reason": reason}
            if count != 1:
                record["rows"] = count
            self._write(json.dumps(record).encode() + b"\n")
        if self.rows >= EARLY_CHECK_ROWS:
            self.check()

    def restore(self, rows: int, reasons: Mapping[str, int]) -> None:
        """Go on from earlier counts."""
        self.rows = rows
        self.reasons = Counter(reasons)

    def check(self) -> None:
        """Check the share of bad rows so far.

        Raises:
            BadCorpus: it is above the limit.
        """
        self._check(self.set_aside, self.rows)

    def _check(self, bad: int, rows: int) -> None:
        if bad > self.max_bad_fraction * rows:
            where = ""
            if self.shown_path is not None:
                where = f" All of them are listed in {self.shown_path}."
            # The commonest reasons, each with its first row; rows of a preparation that was gone on
            # with are not at hand.
            examples = "; ".join(
                self._examples.get(reason, reason)
                for reason, _ in self.reasons.most_common(EXAMPLES)
            )
            raise BadCorpus(
                f"{bad} of {rows} rows of the corpus cannot be used ({bad / rows:.1%}, "
                f"{self.key} allows {self.max_bad_fraction:.1%}), for example: "
                f"{examples}.{where} Mend the corpus or raise {self.key}."
            )
