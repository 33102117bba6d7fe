"""Builds the loops that tests/bench/train.py compares: the program's and Hugging Face Trainer's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from train.checkpoint import Saver
from train.cluster.distributed import World
from train.config import (
    DataConfig,
    DecayConfig,
    LogConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    TrainConfig,
)
from train.data.loading.rows import Labelled, PackedRows
from train.data.loading.sampler import Batches
from train.engines.deepspeed import build_engine
from train.loop.decay_methods import build_decay
from train.loop.trainer import Trainer
from train.models.build import build_model
from train.tasks.language_modelling.prepared import Prepared
from train.tasks.language_modelling.task import LanguageModelling
from train.telemetry.telemetry import Telemetry

ROWS_OF_DATA = 512


@dataclass(frozen=True)
class Size:
    """A model, and the rows and tokens of one rank's step.

    Args:
        target: smallest ratio of our tokens per second to Trainer's.
    """

    model: ModelConfig
    rows: int
    length: int
    target: float = 1.0


SIZES = {
    "toy": Size(
        ModelConfig(
            vocab_size=256, hidden_size=64, intermediate_size=172, num_layers=2, num_heads=4
        ),
        4,
        32,
    ),
    "60m": Size(ModelConfig(), 4, 128),
}


def ds_config(stage: int, size: Size, ranks: int) -> dict[str, Any]:
    """Return a resolved DeepSpeed configuration, for Trainer and for the program alike."""
    zero: dict[str, Any] = {"stage": stage}
    if stage == 3:
        zero["stage3_param_persistence_threshold"] = 2048
    return {
        "train_batch_size": size.rows * ranks,
        "train_micro_batch_size_per_gpu": size.rows,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": 1.0,
        "steps_per_print": 10**9,
        "zero_optimization": zero,
    }


def recipe(size: Size, ranks: int, method: str) -> TrainConfig:
    steps = 10**6
    return TrainConfig(
        model=size.model,
        data=DataConfig(sequence_length=size.length),
        optim=OptimConfig(lr=1e-4, weight_decay=0.1, warmup_steps=0, min_lr_ratio=1.0),
        decay=replace(DecayConfig(), method=method, interval=steps),
        run=RunConfig(
            steps=steps, global_batch=size.rows * ranks, micro_batch=size.rows, precision="float32"
        ),
        log=LogConfig(progress="off", peak_tflops=1.0),
    )


def rows(size: Size) -> PackedRows:
    """Make up tokens, as the program reads them."""
    count = ROWS_OF_DATA * size.length
    tokens = np.random.default_rng(0).integers(0, size.model.vocab_size, count).astype(np.uint16)
    file: Any = SimpleNamespace(tokens=tokens, check_rows=lambda length: len(tokens) // length)
    return PackedRows(file, size.length)


class Gated(Telemetry):
    """The program's telemetry, with a gate at the start of every step."""

    gate: Callable[[], None]

    def begin(self, step: int) -> None:
        self.gate()
        super().begin(step)


def ours(
    method: str, size: Size, stage: int, world: World, folder: Path
) -> Callable[[Callable[[], None]], None]:
    """Build the program's loop. Collective."""
    config = recipe(size, world.size, method)
    engine = build_engine(config, ds_config(stage, size, world.size))
    decay = build_decay(config, engine)
    telemetry = Gated(config, folder / method, world, engine, None)
    data = rows(size)
    held_out = Labelled(*data.read(np.arange(1)))
    batches = Batches([data], config.run.seed, config.run.global_batch)
    task = LanguageModelling(config, world, Prepared([]), batches, held_out, None, "")
    saver = Saver(config.checkpoint, folder / method, engine, {}, world)
    trainer = Trainer(config, world, engine, decay, task, telemetry, {}, folder / method, saver)

    def loop(gate: Callable[[], None]) -> None:
        telemetry.gate = gate
        trainer.train()

    return loop


def trainer_arguments(size: Size, config: dict[str, Any], optim: OptimConfig, folder: Path) -> Any:
    """Return Hugging Face TrainingArguments for the same run."""
    import transformers

    return transformers.TrainingArguments(
        output_dir=str(folder),
        deepspeed=config,
        per_device_train_batch_size=size.rows,
        max_steps=10**6,
        use_cpu=True,
        max_grad_norm=1.0,
        logging_steps=LogConfig().every,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        log_level="error",
        log_level_replica="error",
        learning_rate=optim.lr,
        weight_decay=optim.weight_decay,
    )


def theirs(
    size: Size, stage: int, world: World, folder: Path
) -> Callable[[Callable[[], None]], None]:
    """Build Hugging Face Trainer's loop. Collective."""
    import transformers

    config = ds_config(stage, size, world.size)
    optim = recipe(size, world.size, "uniform").optim
    arguments = trainer_arguments(size, config, optim, folder / "trainer")
    model = build_model(size.model, size.length, seed=42, ds_config=config)
    betas = (optim.beta1, optim.beta2)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=optim.lr, betas=betas, eps=optim.eps, weight_decay=optim.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    data = rows(size).read(np.arange(ROWS_OF_DATA))
    dataset = [
        {"input_ids": tokens, "labels": labels} for tokens, labels in zip(*data, strict=True)
    ]

    def loop(gate: Callable[[], None]) -> None:
        class Gate(transformers.TrainerCallback):
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                assert trainer.deepspeed.zero_optimization_stage() == stage
                gate()

        trainer = transformers.Trainer(
            model=model,
            args=arguments,
            train_dataset=dataset,
            optimizers=(optimizer, schedule),
            callbacks=[Gate()],
        )  # type: ignore[arg-type]
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()

    return loop
