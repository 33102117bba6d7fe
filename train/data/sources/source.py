"""Defines a source of text: documents in a fixed order, read as chunks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.data.sources.chunks import Chunk, row_text
from train.data.sources.quarantine import Quarantine, no_documents


@dataclass(frozen=True)
class Source:
    """A corpus that can be read more than once.

    Args:
        description: what it is, for people.
        identity: JSON-able facts that change when the documents do.
        chunks: starts a pass at a chunk's `after`, or at the beginning for None.
        expected: number of documents where it is known beforehand, else 0.
        files: the files it reads, in order; empty where it reads none.
        notes: lines for people about what was found in it.
    """

    description: str
    identity: Any
    chunks: Callable[[dict[str, Any] | None], Iterator[Chunk]]
    expected: int = 0
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()

    def documents(self, quarantine: Quarantine) -> Iterator[str]:
        """Yield every usable text; unusable rows go to the quarantine.

        Raises:
            UserError: a file has no usable text, or too many rows are unusable.
        """
        good = before = 0
        for chunk in self.chunks(None):
            if chunk.begins:
                good = 0
                before = quarantine.set_aside
            for file, line, content in chunk.rows:
                try:
                    text = row_text(chunk.form, content)
                except ValueError as error:
                    quarantine.reject(file, line, str(error))
                    continue
                quarantine.accept()
                good += 1
                yield text
            if chunk.ends and not chunk.broken and not good:
                bad = quarantine.set_aside - before
                raise no_documents(chunk.ends, bad, quarantine.last_reason)
