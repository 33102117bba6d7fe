"""Has the data prepared before the model is built: all of it, or its beginning if that will do."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from train.cluster.distributed import World
from train.cluster.shared_folder import check_seen
from train.config import TrainConfig
from train.data.loading.dataset import can_begin
from train.data.loading.memmap import META_NAME
from train.data.loading.partial import PartialCorpus
from train.data.preparing.beside import PreparationBeside
from train.data.preparing.corpora import prepare_all
from train.data.preparing.prepare import find_prepared
from train.data.tokenizers.load import AnyTokenizer, load_prepared
from train.errors import UserError
from train.tasks.task import Interruptible

_PAUSE = 0.2  # seconds between two looks


@dataclass(frozen=True)
class Prepared:
    """What a run has to begin with.

    Args:
        folders: of the corpora; the only one may be yet to appear.
        part: what is there of the only corpus; None where everything is.
        beside: rank 0's, which prepares the rest; None on other ranks.
    """

    folders: list[Path]
    part: PartialCorpus | None = None
    beside: PreparationBeside | None = None

    def tokenizer(self) -> AnyTokenizer:
        """Load the tokenizer of the first corpus, from wherever its files are by now."""
        *before, last = self.part.folders if self.part is not None else self.folders[:1]
        for folder in before:
            with suppress(UserError):  # it has been moved
                return load_prepared(folder)
        return load_prepared(last)

    def end(self) -> None:
        """End what still prepares."""
        if self.beside is not None:
            self.beside.end()


def prepare_together(config: TrainConfig, world: World, interruptible: Interruptible) -> Prepared:
    """Prepare on rank 0 what the run needs to begin. Collective.

    Raises:
        UserError: the data cannot be prepared, or a rank does not see them.
        Stopped: rank 0 was asked to stop meanwhile.
    """
    started: list[PreparationBeside] = []

    def on_main() -> tuple[list[Path], PartialCorpus | None]:
        with interruptible():  # it may take hours, and there is nothing to save yet
            if config.data.start_early:
                return _begin(config, started)
            return _prepare_all(config), None

    folders, part = world.run_on_main(on_main, patient=True)
    if part is None:
        for folder in folders:  # a node's own copy will do, if it is there
            check_seen("data.directory", folder / META_NAME, world)
    return Prepared(folders, part, next(iter(started), None))


def _prepare_all(config: TrainConfig) -> list[Path]:
    return prepare_all(config.data, config.model.vocab_size)


def _begin(
    config: TrainConfig, started: list[PreparationBeside]
) -> tuple[list[Path], PartialCorpus | None]:
    """Start the preparation and wait for the rows of validation and the first of training.

    Args:
        started: takes the preparation that goes on.
    """
    vocabulary = config.model.vocab_size
    folder, ready = find_prepared(config.data, vocabulary, writable=True)
    if ready:
        return _prepare_all(config), None
    beside = PreparationBeside(config.data, vocabulary, folder)
    try:
        part = _first_part(beside, config)
    except BaseException:
        beside.end()
        raise
    if part.complete:
        beside.end()
        return _prepare_all(config), None
    started.append(beside)
    return [folder], part


def _first_part(beside: PreparationBeside, config: TrainConfig) -> PartialCorpus:
    while True:
        failure = beside.failure()
        part = beside.look()
        if part is not None and (part.complete or can_begin(part, config)):
            return part
        if failure:
            raise UserError(failure)
        time.sleep(_PAUSE)
