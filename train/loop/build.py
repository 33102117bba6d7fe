"""Builds a Trainer from a checked configuration: data, engine, decay and checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from train import checkpoint
from train.cluster.distributed import World
from train.cluster.shared_folder import check_shared
from train.config import TrainConfig
from train.config.run_folder import CHECKPOINTS, STOP
from train.config.validate import accumulation_steps
from train.data.loading.dataset import (
    data_identity,
    only_content_tells,
    open_data,
    same_data,
)
from train.data.preparing.corpora import documents_prepared
from train.engines.build import EnginePlan, build_engine, plan_engine
from train.errors import UserError
from train.loop.auto_decay import settle_base
from train.loop.decay_methods import build_decay, check_method
from train.loop.downstream import load_downstream
from train.loop.prepared import Prepared, prepare_together
from train.loop.random_state import seed_all
from train.loop.resume_changes import resume_changes
from train.loop.stopping.budget import Budget
from train.loop.stopping.diverged import forget_divergence, refuse_if_diverged
from train.loop.stopping.signals import StopRequests, own_stop_files
from train.loop.supply import Supply, on_all
from train.loop.trainer import Trainer
from train.models import spec_of
from train.models.kernels import check_machine
from train.system.lease import Lease
from train.system.patience import patiently
from train.telemetry.sinks import check_sinks
from train.telemetry.telemetry import Telemetry


def build(
    config: TrainConfig,
    world: World,
    requests: StopRequests | None = None,
    lease: Lease | None = None,
) -> Trainer:
    """Build a Trainer that is ready to train. Collective.

    Everything that can be wrong is checked before the model is built.

    Args:
        lease: the right to write in output_dir; None where nobody else can.

    Raises:
        UserError: data, configuration or checkpoint that cannot be used.
        Stopped: rank 0 was asked to stop while it prepared the data.
    """
    folder = config.folder
    requests = requests or StopRequests()
    if world.is_main:
        requests.files = (folder / STOP, *own_stop_files())
        requests.until = Budget(config.run.max_hours).ends()
    plan = plan_engine(config, accumulation_steps(config, world.size), world.size)
    check_sinks(config)
    check_method(config)
    check_machine(config.model)
    world.run_on_main(lambda: refuse_if_diverged(config))
    world.run_on_main(lambda: patiently(lambda: folder.mkdir(parents=True, exist_ok=True)))
    check_shared("output_dir", folder, world)
    prepared = prepare_together(config, world, requests)
    try:
        config = settle_base(config, prepared.folders, world)
        trainer = _build_trainer(config, world, requests, prepared, plan, lease)
        world.run_on_main(lambda: _keep_tokenizer(prepared, folder))
    except BaseException:
        prepared.end()
        raise
    return trainer


def _build_trainer(
    config: TrainConfig,
    world: World,
    requests: StopRequests,
    prepared: Prepared,
    plan: EnginePlan,
    lease: Lease | None,
) -> Trainer:
    folder = config.folder
    part = prepared.part
    batches, validation = on_all(world, lambda: open_data(prepared.folders, config, part))
    length = config.data.sequence_length
    downstream = load_downstream(config.eval, prepared.tokenizer(), length, world)
    data = world.run_on_main(lambda: data_identity(prepared.folders, config.data))
    run_identity = checkpoint.identity(config, world.size, plan.layout, data)
    resume, saved, consumed = _find(config, folder, run_identity, prepared, world)
    universal = saved is not None and saved.universal
    engine = build_engine(config, plan, world.device, universal)
    decay = build_decay(config, engine)
    saver = checkpoint.Saver(
        config.checkpoint,
        folder / CHECKPOINTS,
        engine,
        run_identity,
        world,
        lease,
        beginning=resume.beginning,
        consumed=consumed,
    )
    telemetry = Telemetry(config, folder, world, engine, saved.step if saved else None)
    trainer = Trainer(
        config,
        world,
        engine,
        decay,
        Supply(config, world, batches, telemetry, prepared.beside),
        validation,
        telemetry,
        run_identity,
        folder,
        saver,
        requests,
        lease,
        downstream,
    )
    seed_all(config.run.seed, world.rank)  # last: what was drawn to build it should not matter
    if saved is not None:
        trainer.resume(saved)
        telemetry.message(f"going on from {saved.path}, step {saved.step} of {config.run.steps}")
        if world.is_main:
            changed = resume_changes(config, saved.path.parent.parent, saved.step)
            if changed:
                telemetry.message(f"going on with other settings: {changed}")
    world.run_on_main(lambda: _note_start(folder, resume))
    return trainer


def documents_ready(config: TrainConfig) -> int:
    """Return how many documents of the run's corpora are prepared: progress before a first step."""
    return documents_prepared(config.data, spec_of(config.model).vocabulary(config.model))


def _find(
    config: TrainConfig,
    folder: Path,
    run_identity: dict[str, Any],
    prepared: Prepared,
    world: World,
) -> tuple[checkpoint.Resume, checkpoint.Checkpoint | None, Path | None]:
    """Return how to resume, the checkpoint to load, and the one that has then served.

    Collective.
    """

    def say(text: str) -> None:
        if world.is_main:
            print(text, flush=True)

    resume = world.run_on_main(lambda: checkpoint.how_to_resume(config, say))
    found = checkpoint.find_together(resume, folder / CHECKPOINTS, world, say)
    if found is None:
        return resume, None, None
    data = found.manifest.get("data")
    expected = run_identity
    now = run_identity["data"]
    if data != now and world.run_on_main(lambda: _is_same(data, now, prepared, config)):
        say(f"The data of {found.path}, {data}, is by content this run's, {now}")
        expected = {**run_identity, "data": data}
    checkpoint.check_identity(found, expected, config.checkpoint.convert)
    saved = checkpoint.convert_if_needed(found, run_identity, world, say)
    return resume, saved, None if saved.path == found.path else saved.path


def _is_same(saved: Any, now: str, prepared: Prepared, config: TrainConfig) -> bool:
    """Return whether a checkpoint's data are this run's, told by their content.

    Raises:
        UserError: it cannot be told yet.
    """
    if same_data(saved, prepared.folders, config.data):
        return True
    if prepared.part is not None and only_content_tells(saved, now):
        raise UserError(
            f"the run's checkpoints know their data by content, {saved}, and the corpus, {now}, is "
            "still being prepared; prepare it first: python -m train prepare with this recipe. "
            "Then the same command goes on"
        )
    return False


def _note_start(folder: Path, resume: checkpoint.Resume) -> None:
    """Write down what the run is begun from, now that nothing stands in its way.

    Raises:
        UserError: it cannot be written; the next start would begin again.
    """
    try:
        patiently(lambda: checkpoint.write_beginning(folder, resume.beginning))
        patiently(lambda: forget_divergence(folder))
    except OSError as error:
        raise UserError(f"output_dir: cannot write to {folder}: {error.strerror}") from error


def _keep_tokenizer(prepared: Prepared, folder: Path) -> None:
    """Keep the tokenizer beside the checkpoints: exports look for it there."""
    try:
        prepared.tokenizer().save(folder)
    except OSError as error:
        print(
            f"warning: the tokenizer is not copied to {folder}: {error.strerror}; exports need "
            "--tokenizer",
            file=sys.stderr,
            flush=True,
        )
