"""Writes what a command made, whole or not at all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from alphadecay.inspect.errors import InspectError


def write(name: str, text: str) -> None:
    """Write a file by rename, so that nobody reads half of it; `-` is standard output.

    Raises:
        InspectError: it cannot be written.
    """
    if name == "-":
        sys.stdout.write(text)
        return
    path = Path(name)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        raise InspectError(f"{path} cannot be written: {error.strerror or error}") from error
