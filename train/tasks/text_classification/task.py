"""Classification and regression of text with their sentences opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional

from train.cluster.distributed import World
from train.cluster.shared_folder import check_seen
from train.config import TrainConfig
from train.config.run_folder import CLASSES, TOKENIZER_FILES
from train.data.sentences.arrays import META, Sentences, open_split, read_meta
from train.data.sentences.batches import SentenceBatches
from train.data.sentences.prepare import prepare_sentences
from train.engines.protocol import Engine
from train.models.kernels import compiles_layers
from train.system.files import write_atomically
from train.tasks.supply import Supply
from train.tasks.task import Interruptible
from train.tasks.text_classification.data_plan import identity_of
from train.tasks.text_classification.evaluation import evaluate
from train.tasks.text_classification.kind import figure_of, metric_of
from train.telemetry.telemetry import Telemetry


class TextClassification:
    """Tells the class of a text, or a number of it.

    Args:
        config: of the run.
        world: this rank.
        folder: of the prepared sentences.
        training: the rows to train on.
        validation: the rows held out.
    """

    questions = None

    def __init__(
        self,
        config: TrainConfig,
        world: World,
        folder: Path,
        training: Sentences,
        validation: Sentences,
    ) -> None:
        self.figure = figure_of(config)
        self.identity = identity_of(read_meta(folder).content)
        self._config = config
        self._world = world
        self._folder = folder
        self._training = training
        self._validation = validation
        self._regression = config.task == "text_regression"
        self._length = filled_length(config)

    def supply(self, telemetry: Telemetry) -> Supply:
        """Return the batches of training."""
        run = self._config.run
        batches = SentenceBatches(
            self._training, run.seed_of_data, run.global_batch, self._length, self._regression
        )
        return Supply(self._config, self._world, batches)

    def loss(self, outputs: Any, targets: Tensor | None) -> Tensor:
        """Return the mean cross-entropy, or the mean squared error, in float32."""
        assert targets is not None
        logits = outputs.logits.float()
        if self._regression:
            return functional.mse_loss(logits[:, 0], targets)
        return functional.cross_entropy(logits, targets)

    def evaluate(self, engine: Engine) -> dict[str, float]:
        """Return loss and figures on the held-out rows. Collective."""
        config = self._config
        return evaluate(
            engine,
            self._validation,
            metric_of(config),
            self._regression,
            self._length,
            config.eval.micro_batch or config.run.micro_rows,
            self._world,
        )

    def is_same(self, saved: object) -> bool:
        """Return whether a checkpoint's rows are these: their identity is of their content."""
        return saved == self.identity

    def keep(self, folder: Path) -> None:
        """Write the tokenizer, and the names of the classes."""
        for name in TOKENIZER_FILES:
            if (self._folder / name).is_file():
                write_atomically(folder / name, (self._folder / name).read_bytes())
        classes = read_meta(self._folder).label_names
        if classes:
            write_atomically(folder / CLASSES, json.dumps(classes, indent=0) + "\n")

    def end(self) -> None:
        """End nothing: all is prepared before a run begins."""


def filled_length(config: TrainConfig) -> int:
    """Return the tokens that every row is filled to; 0 where those of a pass are filled alike."""
    padding = config.sentences.padding
    whole = padding == "row" or (padding == "auto" and compiles_layers(config.model))
    return config.sentences.sequence_length if whole else 0


def open_text_classification(
    config: TrainConfig, world: World, interruptible: Interruptible
) -> TextClassification:
    """Tokenize the sentences where that is due, and open them. Collective."""

    def prepare() -> Path:
        with interruptible():  # it may take long, and there is nothing to save yet
            return prepare_sentences(config)

    folder = world.run_on_main(prepare, patient=True)
    check_seen("data.directory", folder / META, world)
    training, validation = world.run_on_all(
        lambda: (open_split(folder, "train"), open_split(folder, "validation"))
    )
    return TextClassification(config, world, folder, training, validation)
