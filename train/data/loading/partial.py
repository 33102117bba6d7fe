"""Opens what is there of a corpus that is still being prepared."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from train.data.loading.memmap import Meta, Split, TokenFile
from train.errors import UserError

PATIENCE = 75.0  # seconds; NFS may show a file as it was for a minute
_PAUSE = 0.2


@dataclass(frozen=True)
class PartialCorpus:
    """The first documents of each split, as far as they stay whatever comes after them.

    Args:
        folders: where the files are: the first of these that has them. They move once, at the end.
        meta: with the counts of what is there.
        complete: whether that is all.
        validation_complete: whether it is all of validation.
    """

    folders: tuple[Path, ...]
    meta: Meta
    complete: bool
    validation_complete: bool

    def open(self, split: Split, patience: float = PATIENCE) -> TokenFile:
        """Open one split.

        Args:
            patience: seconds that the files may take to appear as another machine wrote them.

        Raises:
            UserError: they do not.
        """
        deadline = time.monotonic() + patience
        while True:
            for folder in self.folders:
                try:
                    return TokenFile(folder, split, self.meta)
                except UserError as error:
                    reason = error
            if time.monotonic() >= deadline:
                raise UserError(
                    f"data.directory: what is prepared of {self.folders[-1]} is not seen here "
                    f"({reason}); with data.start_early it must be a folder that every node shares"
                ) from None
            time.sleep(_PAUSE)
