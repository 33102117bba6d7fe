"""Opens prepared folders as what the loop reads: training batches and the rows of validation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from train.config import DataConfig, TrainConfig
from train.config.shares import whole_shares
from train.data.loading.memmap import Split, TokenFile, content_name
from train.data.loading.partial import PartialCorpus
from train.data.loading.rows import Labelled, Rows, count_first_rows, open_rows
from train.data.loading.sampler import Batches, validation_rows

# Rows that are shuffled together with data.start_early: it can never change.
BLOCK_ROWS = 65_536
_FINGERPRINT = re.compile(r"\b[0-9a-f]{12}\b")

_CONTENT = re.compile(r"\b[0-9a-f]{16}\b")


def open_data(
    folders: Sequence[Path], config: TrainConfig, part: PartialCorpus | None = None
) -> tuple[Batches, Labelled]:
    """Open what `prepare_all` returned as training batches and validation rows.

    Args:
        part: what is there of the only corpus, which is still being prepared.

    Raises:
        UserError: a folder is damaged, or a split has not one row.
    """
    sources = config.data.mixture
    weights = [source.weight for source in sources] or None
    names = [source.name for source in sources] or [""]
    run = config.run
    batches = Batches(
        _rows(folders, "train", config.data, part),
        run.seed_of_data,
        run.global_batch,
        weights,
        names,
        BLOCK_ROWS if config.data.start_early else 0,
        complete=part is None,
    )
    held_out = _rows(folders, "validation", config.data, part)
    return batches, validation_rows(held_out, config.eval.tokens, weights)


def training_rows(part: PartialCorpus, data: DataConfig) -> Rows:
    """Open the training rows that are there of a corpus.

    Raises:
        UserError: this machine does not see them.
    """
    return open_rows(part.open("train"), data.sequence_length, data.rows)


def can_begin(part: PartialCorpus, config: TrainConfig) -> bool:
    """Return whether a run can begin: a first block of training rows, and validation as it stays.

    Raises:
        UserError: the files are not there.
    """
    data = config.data
    counts = part.meta.train
    packed = data.rows == "packed"
    rows = counts.tokens // data.sequence_length if packed else counts.documents
    if rows < BLOCK_ROWS:
        return False
    if part.validation_complete:
        return True
    counts = part.meta.validation
    if not (counts.tokens // data.sequence_length if packed else counts.documents):
        return False
    held_out = open_rows(part.open("validation"), data.sequence_length, data.rows)
    return count_first_rows(held_out, config.eval.tokens) < len(held_out)


def data_identity(folders: Sequence[Path], data: DataConfig) -> str:
    """Return what a checkpoint remembers of the data: it changes when rows or their order do.

    Each corpus is named by its own content, so that it may lie anywhere and be made at any time;
    one of an earlier version, which does not know its hashes, by its fingerprint, and so is one
    that is not there yet.
    """
    return _identity([_name(folder) for folder in folders], data)


def _name(folder: Path) -> str:
    return content_name(folder, hashed=False) if folder.exists() else folder.name[-12:]


def same_data(saved: object, folders: Sequence[Path], data: DataConfig) -> bool:
    """Return whether a checkpoint's identity of its data means the rows of these folders.

    Earlier versions named a corpus by a fingerprint of its files' paths and times. It stands for
    the content of the folder with that fingerprint, if that is in data.directory; the token files
    of an old folder are read for it.
    """
    now = data_identity(folders, data)
    if saved == now:
        return True

    def by_content(found: re.Match[str]) -> str:
        there = [folder for folder in folders if folder.exists()]
        named = [folder for folder in there if folder.name.endswith(f"-{found[0]}")]
        named += sorted(Path(data.directory).expanduser().glob(f"[!.]*-{found[0]}"))
        return content_name(named[0]) if named else found[0]

    return _FINGERPRINT.sub(by_content, str(saved)) == _FINGERPRINT.sub(by_content, now)


def only_content_tells(saved: object, now: str) -> bool:
    """Return whether two identities differ in nothing but one's content and the other's paths.

    Args:
        saved: with a corpus that was prepared.
        now: with one that is still being prepared.
    """
    return _CONTENT.sub("", str(saved)) == _FINGERPRINT.sub("", now)


def _identity(names: Sequence[str], data: DataConfig) -> str:
    order = f" in blocks of {BLOCK_ROWS} rows (data.start_early)" if data.start_early else ""
    if not data.mixture:
        return f"{names[0]} {data.rows}{order}"
    shares = whole_shares([source.weight for source in data.mixture])
    named = zip(data.mixture, shares, names, strict=True)
    parts = [f"{source.name} {share} {name}" for source, share, name in named]
    return f"{', '.join(parts)} {data.rows}"


def _rows(
    folders: Sequence[Path], split: Split, data: DataConfig, part: PartialCorpus | None
) -> list[Rows]:
    if part is not None:
        files = [part.open(split)]
    else:
        files = [TokenFile(folder, split) for folder in folders]
    return [open_rows(file, data.sequence_length, data.rows) for file in files]
