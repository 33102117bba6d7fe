"""Builds a Trainer from a checked configuration: data, engine, decay and checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from train import checkpoint
from train.cluster.distributed import World
from train.config import TrainConfig
from train.config.run_folder import CHECKPOINTS, STOP
from train.config.validate import accumulation_steps
from train.data.loading.dataset import data_identity, open_data
from train.data.preparing.corpora import prepare_all
from train.data.tokenizers.load import load_prepared
from train.engines.deepspeed import build_engine
from train.engines.ds_config import load_ds_config, zero_stage
from train.errors import UserError
from train.loop.decay_methods import build_decay, check_method
from train.loop.random_state import seed_all
from train.loop.stopping.signals import StopRequests
from train.loop.trainer import Trainer
from train.models import spec_of
from train.models.kernels import check_machine
from train.telemetry.sinks import check_sinks
from train.telemetry.telemetry import Telemetry


def build(config: TrainConfig, world: World, requests: StopRequests | None = None) -> Trainer:
    """Build a Trainer that is ready to train. Collective.

    Everything that can be wrong is checked before the model is built.

    Raises:
        UserError: data, configuration or checkpoint that cannot be used.
        Stopped: rank 0 was asked to stop while it prepared the data.
    """
    folder = config.folder
    requests = requests or StopRequests()
    if world.is_main:
        requests.file = folder / STOP
    ds_config = load_ds_config(config, accumulation_steps(config, world.size), world.size)
    check_sinks(config)
    check_method(config)
    check_machine(config.model)
    world.run_on_main(lambda: _make(folder))
    prepared = world.run_on_main(lambda: _prepare(config, requests), patient=True)
    trainer = _build_trainer(config, world, requests, prepared, ds_config)
    world.run_on_main(lambda: load_prepared(prepared[0]).save(folder))  # what exports need
    return trainer


def _build_trainer(
    config: TrainConfig,
    world: World,
    requests: StopRequests,
    prepared: list[Path],
    ds_config: dict[str, Any],
) -> Trainer:
    folder = config.folder
    batches, validation = open_data(prepared, config)
    run_identity = checkpoint.identity(
        config, world, zero_stage(ds_config), data_identity(prepared, config.data)
    )
    saved = world.run_on_main(lambda: _find(config, folder, run_identity))
    if saved is not None and saved.universal:
        ds_config["checkpoint"] = {**ds_config.get("checkpoint", {}), "load_universal": True}
    engine = build_engine(config, ds_config)
    decay = build_decay(config, engine.handle)
    saver = checkpoint.Saver(config.checkpoint, folder / CHECKPOINTS, engine, run_identity, world)
    telemetry = Telemetry(config, folder, world, engine, saved.step if saved else None)
    trainer = Trainer(
        config,
        world,
        engine,
        decay,
        batches,
        validation,
        telemetry,
        run_identity,
        folder,
        saver,
        requests,
    )
    seed_all(config.run.seed, world.rank)  # last: what was drawn to build it should not matter
    if saved is not None:
        trainer.resume(saved)
        telemetry.message(f"going on from {saved.path}, step {saved.step} of {config.run.steps}")
    return trainer


def _prepare(config: TrainConfig, requests: StopRequests) -> list[Path]:
    with requests.interrupting():  # it may take hours, and there is nothing to save yet
        return prepare_all(config.data, spec_of(config.model).vocabulary(config.model))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output_dir: cannot make the folder {folder}: {error.strerror}") from None


def _find(
    config: TrainConfig, folder: Path, run_identity: dict[str, Any]
) -> checkpoint.Checkpoint | None:
    def say(text: str) -> None:
        print(text, flush=True)

    saved = checkpoint.find(config.resume, folder / CHECKPOINTS, say)
    if saved is None:
        return None
    checkpoint.check_identity(saved, run_identity, config.checkpoint.convert)
    return checkpoint.convert_if_needed(saved, run_identity, say)
