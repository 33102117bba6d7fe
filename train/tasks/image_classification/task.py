"""Image classification with its images opened."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn import functional

from train.cluster.distributed import World
from train.cluster.shared_folder import check_seen
from train.config import TrainConfig
from train.data.images.batches import ImageBatches
from train.data.images.image_set import ImageSet
from train.data.images.sources import open_images, prepare_images
from train.data.images.transforms import Transforms
from train.engines.protocol import Engine
from train.system.cpu_count import cores_of_rank
from train.tasks.image_classification.evaluation import evaluate
from train.tasks.image_classification.kind import TOP1
from train.tasks.image_classification.preprocessor import keep
from train.tasks.supply import Supply
from train.tasks.task import Interruptible
from train.telemetry.telemetry import Telemetry

# What `evaluate` returns, of the weights and of their average.
OF_WEIGHTS = ("val_loss", "val_top1", "val_top5")
OF_AVERAGE = ("val_ema_loss", "val_ema_top1", "val_ema_top5")


class ImageClassification:
    """Tells the class of an image; compared by top-1 accuracy.

    Args:
        config: of the run.
        world: this rank.
        training: the images to train on.
        validation: the images held out.
    """

    questions = None

    def __init__(
        self, config: TrainConfig, world: World, training: ImageSet, validation: ImageSet
    ) -> None:
        self.figure = TOP1
        self.identity = training.identity
        self._config = config
        self._world = world
        self._training = training
        self._validation = validation
        self._transforms = Transforms(config.images, config.model.image_size)
        threads = config.images.workers or cores_of_rank()
        # They start when they are needed, and end with the process or with `end`.
        self._pool = ThreadPoolExecutor(threads, "images")

    def supply(self, telemetry: Telemetry) -> Supply:
        """Return the batches of training."""
        config = self._config
        batches = ImageBatches(
            self._training,
            config.images,
            config.model.image_size,
            config.run.seed_of_data,
            config.run.global_batch,
            config.positions,
            self._pool,
        )
        return Supply(config, self._world, batches)

    def loss(self, outputs: Any, targets: Tensor | None) -> Tensor:
        """Return the mean cross-entropy to the targets' probabilities, in float32."""
        assert targets is not None
        return functional.cross_entropy(outputs.logits.float(), targets)

    def evaluate(self, engine: Engine) -> dict[str, float]:
        """Return loss, top-1 and top-5 of the weights, and of their average. Collective."""
        figures = self._figures(engine, OF_WEIGHTS)
        if engine.average is not None:
            with engine.averaged():
                figures |= self._figures(engine, OF_AVERAGE)
        return figures

    def is_same(self, saved: object) -> bool:
        """Return whether a checkpoint's images are these: their identity is of their content."""
        return saved == self.identity

    def keep(self, folder: Path) -> None:
        """Write the names of the classes, and what is done to an image before the model sees it."""
        keep(self._config, self._training.classes, folder)

    def end(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _figures(self, engine: Engine, names: tuple[str, str, str]) -> dict[str, float]:
        rows = self._config.eval.micro_batch or self._config.run.micro_rows
        values = evaluate(engine, self._validation, self._transforms, rows, self._world, self._pool)
        return dict(zip(names, values, strict=True))


def open_image_classification(
    config: TrainConfig, world: World, interruptible: Interruptible
) -> ImageClassification:
    """Verify the images where that is due, and open them. Collective."""

    def prepare() -> list[Path]:
        with interruptible():  # it may take long, and there is nothing to save yet
            return list(prepare_images(config.images, config.data, config.model))

    for file in world.run_on_main(prepare, patient=True):
        check_seen("data.directory", file, world)
    opened = world.run_on_all(lambda: open_images(config.images, config.data, config.model))
    return ImageClassification(config, world, *opened)
