"""Output that any console can print."""

from __future__ import annotations

import io
from typing import Any


def print_what_can_be(stream: Any) -> None:
    """Have a text stream write "?" for what its encoding has no letter for, such as → in ASCII.

    LANG=C, PYTHONIOENCODING and an old terminal choose such encodings.
    """
    if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
        stream.reconfigure(errors="replace")
