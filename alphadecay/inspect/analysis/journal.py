"""Keeps the rows that are measured, so that an analysis that was cut goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alphadecay.inspect.analysis.rows import Row
from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.sources import Source


class Journal:
    """A file of JSON lines, a line a row, each with the key that it was measured under.

    Args:
        path: it is made where it is not there, and added to where it is.
        source: the model: rows of other files, or of files that have changed, do not count.
        settings: what the rows depend on beside the weights.

    Raises:
        InspectError: the file cannot be read or written.
    """

    def __init__(self, path: Path, source: Source, settings: Mapping[str, Any]) -> None:
        known = json.dumps([source.identity, dict(settings)], sort_keys=True)
        self._key = hashlib.sha256(known.encode()).hexdigest()
        self._path = path
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            self._file = path.open("a", encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InspectError(f"the journal {path} cannot be used: {error}") from error
        if text and not text.endswith("\n"):  # it was cut in a line
            self._file.write("\n")
        self.rows = {row.name: row for line in text.splitlines() if (row := self._row(line))}

    def add(self, row: Row) -> None:
        """Keep a row; it outlives the process from here on.

        Raises:
            InspectError: it cannot be written.
        """
        line = json.dumps({"key": self._key, "row": row.as_dict()}, allow_nan=False)
        try:
            self._file.write(f"{line}\n")
            self._file.flush()
        except OSError as error:
            raise InspectError(f"the journal {self._path} cannot be written: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _row(self, line: str) -> Row | None:
        """Return the row of a line of this analysis; None for any other and for a broken one."""
        try:
            held = json.loads(line)
            return Row.from_dict(held["row"]) if held["key"] == self._key else None
        except (ValueError, TypeError, KeyError):
            return None
