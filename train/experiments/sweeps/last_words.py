"""Finds, in what a run printed, the line that says why it ended."""

from __future__ import annotations

import re
from pathlib import Path

# The last line of a traceback; torchrun writes more after it.
_EXCEPTION = re.compile(r"[\w.]*(Error|Exception)\b")


def last_words(log: Path, start: int, code: int) -> str:
    """Return the last error or exception that a run printed, else its last line."""
    with log.open("rb") as file:
        file.seek(start)
        text = file.read().decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    exceptions = [line for line in lines if _EXCEPTION.match(line)]
    candidates = errors or exceptions or lines
    return candidates[-1] if candidates else f"it ended with {code} and said nothing"
