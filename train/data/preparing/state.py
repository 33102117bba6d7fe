"""Says how far a preparation is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from train.data.loading.memmap import QUARANTINE_NAME, SPLITS, Split, SplitCounts

FILES = (*(f"{split}.{kind}" for split in SPLITS for kind in ("bin", "ends")), QUARANTINE_NAME)


@dataclass
class State:
    """The progress of a preparation.

    Args:
        records: how often it was written down.
        phase: number of the source being read.
        position: where its next chunk starts; None at its beginning.
        first: whether no document of it was seen yet.
        taken: documents of it that went to its own split.
        rows: rows read from all sources.
        reasons: rows set aside, by reason.
        counts: of each split.
        sizes: bytes of each file.
        read: files that were read of each source that is done.
        file_start: the state where the current file of rows began, to go back to should it turn out
            to be broken.
        may_break: whether it still can.
        validation_first: whether a source of validation is read before that of training. Earlier
            versions read it after.
    """

    records: int = 0
    phase: int = 0
    position: dict[str, Any] | None = None
    first: bool = True
    taken: int = 0
    rows: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    counts: dict[Split, SplitCounts] = field(
        default_factory=lambda: {split: SplitCounts() for split in SPLITS}
    )
    sizes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FILES, 0))
    read: list[int] = field(default_factory=list)
    file_start: dict[str, Any] | None = None
    may_break: bool = False
    validation_first: bool = True

    def totals(self) -> tuple[int, int]:
        """Return the documents and tokens of all splits."""
        documents = sum(counts.documents for counts in self.counts.values())
        tokens = sum(counts.tokens for counts in self.counts.values())
        return documents, tokens

    def settled(self) -> dict[Split, SplitCounts]:
        """Return what stays of each split, whatever the rest of the current file is."""
        if self.may_break and self.file_start is not None:
            return State.of(self.file_start).counts
        return self.counts

    def validation_is_settled(self) -> bool:
        """Return whether no document of validation can come any more."""
        return self.phase >= (1 if self.validation_first else 2)

    @classmethod
    def of(cls, values: dict[str, Any]) -> State:
        """Build the state from what `asdict` or state.json gives."""
        counts = {split: SplitCounts(**values["counts"][split]) for split in SPLITS}
        return cls(**{"validation_first": False, **values, "counts": counts})
