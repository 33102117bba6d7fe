"""Gives output that outlives its reader, and that any console can print.

A closed pipe or terminal must not end a run before its checkpoint, nor must a letter that it does
not know.
"""

from __future__ import annotations

from typing import Any

from alphadecay.inspect.streams import print_what_can_be as print_what_can_be


class PipeSafeStream:
    """A text stream whose writes are lost, not raised, once nobody reads it.

    Ctrl-C also ends the `tee` behind a pipe.
    """

    def __init__(self, stream: Any) -> None:
        print_what_can_be(stream)
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        try:
            return int(self._stream.write(text))
        except OSError:
            return len(text)

    def flush(self) -> None:
        """Flush what can be flushed."""
        try:
            self._stream.flush()
        except OSError:
            return

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
