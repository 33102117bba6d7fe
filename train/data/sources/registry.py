"""Finds the source that data.source names: the file of that name in this folder.

A new source is one file with `open_source(config)`, which returns the training source and the
validation source (None: hold documents out of the first), and its name in `DataConfig.source`.
"""

from __future__ import annotations

from importlib import import_module

from train.config import DataConfig
from train.data.sources.source import Source


def open_sources(config: DataConfig) -> tuple[Source, Source | None]:
    """Return the training source and the validation source.

    The second is None where documents are to be held out of the first. The cheap checks of every
    file (present, not empty, form known) run before anything is read.

    Raises:
        UserError: a path is missing, a glob matches nothing, a file is empty or of unknown form, or
            is in both splits.
    """
    opened: tuple[Source, Source | None]
    opened = import_module(f"train.data.sources.{config.source}").open_source(config)
    return opened
