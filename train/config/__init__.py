"""TrainConfig: every choice of a run, typed, in frozen sections; one YAML file plus dotted
overrides fills it.

The recipe owns the model, batch, learning rate, decay and steps. The file named by
`deepspeed.config` owns ZeRO.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from train.config.arithmetic import ArithmeticConfig
from train.config.data import DataConfig, MixtureSource
from train.config.decay import DecayConfig, Ratio
from train.config.engine import EngineConfig
from train.config.images import ImagesConfig
from train.config.loss import LossConfig
from train.config.model import HOW_IT_COMPUTES, ModelConfig
from train.config.optim import OptimConfig
from train.config.run import CheckpointConfig, DeepSpeedConfig, EvalConfig, LogConfig, RunConfig
from train.config.sentences import SentencesConfig

__all__ = [
    "ARCHITECTURES",
    "HOW_IT_COMPUTES",
    "ArithmeticConfig",
    "CheckpointConfig",
    "DataConfig",
    "DecayConfig",
    "DeepSpeedConfig",
    "EngineConfig",
    "EvalConfig",
    "ImagesConfig",
    "LogConfig",
    "LossConfig",
    "MixtureSource",
    "ModelConfig",
    "OptimConfig",
    "Ratio",
    "RunConfig",
    "SentencesConfig",
    "TaskName",
    "TrainConfig",
]

TaskName = Literal[
    "language_modelling",
    "image_classification",
    "modular_arithmetic",
    "text_classification",
    "text_regression",
]
# Whose head a task's loss is made of.
ARCHITECTURES: Mapping[TaskName, tuple[str, ...]] = MappingProxyType(
    {
        "language_modelling": ("llama", "qwen3", "gpt2"),
        "image_classification": ("vit",),
        "modular_arithmetic": ("llama", "qwen3", "gpt2"),
        "text_classification": ("roberta", "bert"),
        "text_regression": ("roberta", "bert"),
    }
)


@dataclass(frozen=True)
class TrainConfig:
    """One run.

    Args:
        name: name of the run.
        task: what is learned; a package of train/tasks.
        output_dir: folder of its results; empty means runs/<name>.
        resume: auto goes on from the last complete checkpoint in output_dir; never starts afresh,
            and a path from that checkpoint, once: the same command again goes on from there.
        model: the model to build.
        data: where text comes from.
        loss: what is added to the model's own loss.
        images: where images come from, of task image_classification.
        arithmetic: what is reckoned, of task modular_arithmetic.
        sentences: where labelled sentences come from, of tasks text_classification and
            text_regression.
        optim: the optimizer and its schedule.
        decay: how weight decay is shared out.
        run: length, batch and precision.
        eval: validation.
        checkpoint: checkpoints.
        engine: what shards the model.
        deepspeed: DeepSpeed's own settings.
        log: what is written while it runs.
    """

    name: str = "run"
    task: TaskName = "language_modelling"
    output_dir: str = ""
    resume: str = "auto"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    images: ImagesConfig = field(default_factory=ImagesConfig)
    arithmetic: ArithmeticConfig = field(default_factory=ArithmeticConfig)
    sentences: SentencesConfig = field(default_factory=SentencesConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    decay: DecayConfig = field(default_factory=DecayConfig)
    run: RunConfig = field(default_factory=RunConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    deepspeed: DeepSpeedConfig = field(default_factory=DeepSpeedConfig)
    log: LogConfig = field(default_factory=LogConfig)

    @property
    def folder(self) -> Path:
        """Return the folder of the results."""
        return Path(self.output_dir or f"runs/{self.name}").expanduser()

    @property
    def positions(self) -> int:
        """Return the positions of a row, as the model attends over them."""
        if self.task == "modular_arithmetic":
            return 3  # two numbers and a sign
        if self.task == "image_classification":
            return (self.model.image_size // self.model.patch_size) ** 2 + 1  # a class token
        if self.task in ("text_classification", "text_regression"):
            return self.sentences.sequence_length
        return self.data.sequence_length

    @property
    def positions_of_run(self) -> int:
        """Return the positions that all steps take, fill among them."""
        return self.run.steps * self.run.global_batch * self.positions
