"""Language modelling with its corpora opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from alphadecay.inspect.run.metrics import PERPLEXITY
from train.cluster.distributed import World
from train.config import TrainConfig
from train.data.loading.dataset import data_identity, only_content_tells, open_data, same_data
from train.data.loading.rows import Labelled
from train.data.loading.sampler import Batches
from train.engines.protocol import Engine
from train.errors import UserError
from train.tasks.language_modelling.downstream import Downstream, load_downstream
from train.tasks.language_modelling.evaluation import evaluate
from train.tasks.language_modelling.prepared import Prepared, prepare_together
from train.tasks.language_modelling.supply import TextSupply
from train.tasks.task import Interruptible
from train.telemetry.telemetry import Telemetry


class LanguageModelling:
    """Predicts the next token; compared by perplexity on held-out rows.

    Args:
        config: of the run.
        world: this rank.
        prepared: the corpora.
        batches: of training.
        held_out: the rows of validation.
        questions: the tasks of eval.downstream; None where it is off.
        identity: of the training rows.
    """

    def __init__(
        self,
        config: TrainConfig,
        world: World,
        prepared: Prepared,
        batches: Batches,
        held_out: Labelled,
        questions: Downstream | None,
        identity: str,
    ) -> None:
        self.figure = PERPLEXITY
        self.identity = identity
        self.questions = questions
        self._config = config
        self._world = world
        self._prepared = prepared
        self._batches = batches
        self._held_out = held_out

    def supply(self, telemetry: Telemetry) -> TextSupply:
        """Return the batches of training."""
        beside = self._prepared.beside
        return TextSupply(self._config, self._world, self._batches, telemetry, beside)

    def loss(self, outputs: Any, targets: Tensor | None) -> Tensor:
        """Return the mean over the predicted tokens, which the model computes without logits."""
        loss: Tensor = outputs.loss
        return loss

    def evaluate(self, engine: Engine) -> dict[str, float]:
        """Return loss and perplexity on the held-out rows, and on those followed. Collective."""
        config = self._config
        rows = config.eval.micro_batch or config.run.micro_rows
        published_batch = config.eval.published_batch
        found = evaluate(engine, self._held_out, rows, self._world, published_batch).record()
        followed = self._followed()
        if followed is not None:
            found["probe_loss"] = evaluate(engine, followed, rows, self._world).loss
        return found

    def _followed(self) -> Labelled | None:
        """Return the rows of eval.probe_step, the same on every rank; None where it is off."""
        step = self._config.eval.probe_step
        if not step:
            return None
        (whole,) = self._batches.batch(step - 1, 0, 1, self._batches.global_batch)
        return Labelled(whole.inputs["input_ids"], whole.inputs["labels"])

    def is_same(self, saved: object) -> bool:
        """Return whether a checkpoint's data are this run's, told by their content.

        Raises:
            UserError: it cannot be told yet.
        """
        if same_data(saved, self._prepared.folders, self._config.data):
            return True
        if self._prepared.part is not None and only_content_tells(saved, self.identity):
            raise UserError(
                f"the run's checkpoints know their data by content, {saved}, and the corpus, "
                f"{self.identity}, is still being prepared; prepare it first: python -m train "
                "prepare with this recipe. Then the same command goes on"
            )
        return False

    def keep(self, folder: Path) -> None:
        """Write the tokenizer."""
        self._prepared.tokenizer().save(folder)

    def end(self) -> None:
        """End the preparation beside the run."""
        self._prepared.end()


def open_language_modelling(
    config: TrainConfig, world: World, interruptible: Interruptible
) -> LanguageModelling:
    """Prepare the corpora, or the beginning of the only one, and open them. Collective."""
    prepared = prepare_together(config, world, interruptible)
    try:
        part = prepared.part
        batches, held_out = world.run_on_all(lambda: open_data(prepared.folders, config, part))
        length = config.data.sequence_length
        questions = load_downstream(config.eval, prepared.tokenizer(), length, world)
        identity = world.run_on_main(lambda: data_identity(prepared.folders, config.data))
    except BaseException:
        prepared.end()
        raise
    return LanguageModelling(config, world, prepared, batches, held_out, questions, identity)
