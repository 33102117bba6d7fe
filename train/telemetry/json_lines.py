"""Appends JSON objects to a file, one a line; where the file system takes none, they wait."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self


class JsonLines:
    """A file of JSON objects that grows by a line at a time; one process writes it.

    Where the file system takes no line, as a full disk does, the lines wait in memory and are
    written once it does. Every line is with the kernel when `append` returns, so that a kill of the
    process loses none.

    Args:
        path: the file.
        say: takes a line when lines begin to wait, and when they have been written.
    """

    def __init__(self, path: Path, say: Callable[[str], None] = lambda text: None) -> None:
        self.path = path
        self._say = say
        self._waiting = b""  # begins in the middle of a line where the disk took a part of it
        self._ailing = False
        self._file = -1

    def append(self, record: Mapping[str, Any]) -> None:
        """Append one line; NaN and infinity are refused, which strict JSON has no word for."""
        self._waiting += json.dumps(record, allow_nan=False).encode() + b"\n"
        self._flush()

    def close(self) -> None:
        """Write what still waits, and close the file; a second call does nothing."""
        if self._waiting:
            self._flush()
        if self._waiting:
            lines = self._waiting.count(b"\n")
            self._waiting = b""
            self._say(f"warning: the last {lines} lines of {self.path} could not be written")
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _flush(self) -> None:
        """Write as much of what waits as the file takes."""
        try:
            self._open()
            while self._waiting:
                self._waiting = self._waiting[os.write(self._file, self._waiting) :]
        except OSError as error:
            self._close()  # a stale handle stays one
            self._tell(f"warning: {self.path}: {error.strerror}; its lines wait in memory", True)
        else:
            self._tell(f"{self.path} is written again, the lines that waited too", False)

    def _tell(self, text: str, ailing: bool) -> None:
        """Say a line where the state has changed."""
        if ailing != self._ailing:
            self._ailing = ailing
            self._say(text)

    def _open(self) -> None:
        if self._file < 0:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def _close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            with suppress(OSError):
                os.close(file)
