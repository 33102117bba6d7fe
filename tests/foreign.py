"""What a foreign file may hold: an object that runs code when it is unpickled in full."""

from __future__ import annotations

from pathlib import Path


def touch(path: str) -> None:
    """Make a file."""
    Path(path).touch()


class Touch:
    """Makes a file when it is unpickled in full."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (touch, (str(self.path),))
