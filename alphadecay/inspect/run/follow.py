"""Reads metrics.jsonl as it grows, and sees when it has been cut back by a resume or begun anew."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.run.metrics import Record

_TAIL = 256  # bytes that tell a file that grew from one that was written over


@dataclass(frozen=True)
class News:
    """What a look at the file has brought.

    Args:
        records: that were not there at the look before.
        gone: how many of those that were there are no longer.
        step: the last step before them, where some are gone.
    """

    records: list[Record]
    gone: int = 0
    step: int = 0


class Follower:
    """This follows one file.

    A resume replaces it by one without the lines of steps that are done again; a new beginning by
    an empty one. Either way it is read from its start again, and what is the same is no news.

    Args:
        path: metrics.jsonl; it need not be there yet.

    Attributes:
        records: all that the file holds.
        damaged: lines that are no record.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Record] = []
        self.damaged = 0
        self._file: tuple[int, int] = (0, 0)
        self._read = 0  # bytes
        self._tail = b""  # the bytes in front of that, which a file that only grew still has

    def look(self) -> News:
        """Read what is new.

        Raises:
            InspectError: the file is there and cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                stat = _identity(file.fileno())
                if stat == self._file and self._only_grew(file):
                    return self._take(file.read())
                self._file = stat
                file.seek(0)
                return self._take_anew(file.read())
        except FileNotFoundError:
            return self._take_anew(b"") if self.records else News([])
        except OSError as error:
            raise InspectError(f"cannot read {self.path}: {error.strerror or error}") from error

    def _only_grew(self, file: BinaryIO) -> bool:
        """Return whether the bytes before the place that was read to are the same; go there."""
        file.seek(max(0, self._read - len(self._tail)))
        return file.read(len(self._tail)) == self._tail

    def _take(self, content: bytes) -> News:
        """Take in whole lines; the rest of one waits for its end."""
        whole = content[: content.rfind(b"\n") + 1]
        self._read += len(whole)
        self._tail = (self._tail + whole)[-_TAIL:]
        records = [record for line in whole.splitlines() if (record := self._record(line))]
        self.records += records
        return News(records)

    def _take_anew(self, content: bytes) -> News:
        before = self.records
        self.records = []
        self.damaged = 0
        self._read = 0
        self._tail = b""
        self._take(content)
        same = 0
        for old, new in zip(before, self.records, strict=False):
            if old != new:
                break
            same += 1
        step = int(self.records[same - 1]["step"]) if same else 0
        return News(self.records[same:], len(before) - same, step)

    def _record(self, line: bytes) -> Record | None:
        try:
            record = json.loads(line)
            if isinstance(record["kind"], str) and isinstance(record["step"], int):
                return dict(record)
        except (ValueError, KeyError, TypeError):
            pass
        self.damaged += 1
        return None


def _identity(descriptor: int) -> tuple[int, int]:
    stat = os.fstat(descriptor)
    return stat.st_dev, stat.st_ino
