"""Rows that cannot be used are set aside with a reason, counted, and too many of them stop the preparation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO

from train.errors import UserError

EARLY_CHECK_ROWS = 1000  # a share over fewer rows says too little to stop a long job before its end
EXAMPLES = 3


class Quarantine:
    """Counts rows and writes the bad ones to a JSON-lines file: file, line (1-based, 0 for a whole file), reason.

    Args:
        path: file to write; None only counts.
        max_bad_fraction: largest tolerated share of bad rows, in [0, 1].
        shown_path: where the user will find the file, for messages; None names no file.
    """

    def __init__(self, path: Path | None, max_bad_fraction: float, shown_path: Path | None = None) -> None:
        self.rows = 0
        self.set_aside = 0
        self.max_bad_fraction = max_bad_fraction
        self.shown_path = shown_path
        self.last_reason = ""
        self._path = path
        self._file: IO[str] | None = None
        self._examples: list[str] = []

    def accept(self) -> None:
        """Count a good row."""
        self.rows += 1
        # A burst of bad rows at 999 must not hide behind the next good one.
        if self.rows == EARLY_CHECK_ROWS:
            self.check()

    def reject(self, file: str, line: int, reason: str) -> None:
        """Count a bad row and write it down. Raises UserError once the share is too high and enough rows were read."""
        self.rows += 1
        self.set_aside += 1
        self.last_reason = reason
        if len(self._examples) < EXAMPLES:
            self._examples.append(f"{file}:{line}: {reason}" if line else f"{file}: {reason}")
        if self._path is not None:
            if self._file is None:
                self._file = self._path.open("w", encoding="utf-8")
            self._file.write(json.dumps({"file": file, "line": line, "reason": reason}) + "\n")
        if self.rows >= EARLY_CHECK_ROWS:
            self.check()

    def check(self) -> None:
        """Raise UserError if the share of bad rows so far is above the limit."""
        if self.set_aside > self.max_bad_fraction * self.rows:
            where = f" All of them are listed in {self.shown_path}." if self.shown_path is not None else ""
            raise UserError(
                f"{self.set_aside} of {self.rows} rows of the corpus cannot be used ({self.set_aside / self.rows:.1%}, "
                f"data.max_bad_fraction allows {self.max_bad_fraction:.1%}), for example: {'; '.join(self._examples)}.{where} "
                "Mend the corpus or raise data.max_bad_fraction."
            )

    def close(self) -> None:
        """Flush and close the file, if one was opened."""
        if self._file is not None:
            self._file.close()
            self._file = None
