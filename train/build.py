"""From a checked configuration to a Trainer: data, engine, decay, and the checkpoint to go on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from train import checkpoint
from train.config import TrainConfig
from train.data.dataset import data_identity, open_data, prepare_all
from train.data.tokenizer import load_prepared
from train.engine import build_engine, load_ds_config
from train.errors import UserError
from train.loop import Trainer
from train.methods import build_decay, check
from train.model import check_machine
from train.rng import seed_all
from train.stopping.signals import FILE_NAME, StopRequests
from train.telemetry.sinks import check_sinks
from train.telemetry.telemetry import Telemetry
from train.validation import accumulation_steps
from train.world import World


def build(config: TrainConfig, world: World, requests: StopRequests | None = None) -> Trainer:
    """A Trainer ready to train.

    Collective. Everything that can be wrong is checked before the model is built.

    Raises:
        UserError: data, configuration or checkpoint that cannot be used.
        Stopped: rank 0 was asked to stop while it prepared the data.
    """
    folder = config.folder
    requests = requests or StopRequests()
    if world.is_main:
        requests.file = folder / FILE_NAME
    ds_config = load_ds_config(config, accumulation_steps(config, world.size), world.size)
    check_sinks(config)
    check(config)
    check_machine(config.model)
    world.once(lambda: _make(folder))
    prepared = world.once(lambda: _prepare(config, requests), patient=True)
    batches, validation = open_data(prepared, config)
    stage = int(ds_config.get("zero_optimization", {}).get("stage", 0))
    who = checkpoint.identity(config, world, stage, data_identity(prepared, config.data))
    found = world.once(lambda: _find(config, folder, who))

    if found is not None and found.universal:
        ds_config["checkpoint"] = {**ds_config.get("checkpoint", {}), "load_universal": True}
    engine = build_engine(config, ds_config)
    decay = build_decay(config, engine)
    saver = checkpoint.Saver(config.checkpoint, folder / checkpoint.FOLDER, engine, who, world)
    telemetry = Telemetry(config, folder, world, engine, found.step if found else None)
    trainer = Trainer(
        config, world, engine, decay, batches, validation, telemetry, who, folder, saver, requests
    )
    seed_all(config.run.seed, world.rank)  # last: what was drawn to build it should not matter
    if found is not None:
        trainer.resume(found)
        telemetry.message(f"going on from {found.path}, step {found.step} of {config.run.steps}")
    world.once(lambda: load_prepared(prepared[0]).save(folder))  # what exports need
    return trainer


def _prepare(config: TrainConfig, requests: StopRequests) -> list[Path]:
    with requests.interrupting():  # it may take hours, and there is nothing to save yet
        return prepare_all(config.data, config.model.vocab_size)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"output_dir: cannot make the folder {folder}: {error.strerror}") from None


def _find(config: TrainConfig, folder: Path, who: dict[str, Any]) -> checkpoint.Checkpoint | None:
    def say(text: str) -> None:
        print(text, flush=True)

    found = checkpoint.find(config.resume, folder / checkpoint.FOLDER, say)
    if found is None:
        return None
    checkpoint.check_identity(found, who, config.checkpoint.convert)
    return checkpoint.fitting(found, who, say)
