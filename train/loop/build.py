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
from train.engines.build import EnginePlan, build_engine, plan_engine
from train.errors import UserError
from train.loop.auto_decay import settle_base
from train.loop.decay_methods import build_decay, check_method
from train.loop.random_state import seed_all
from train.loop.resume_changes import resume_changes
from train.loop.stopping.budget import Budget
from train.loop.stopping.diverged import forget_divergence, refuse_if_diverged
from train.loop.stopping.signals import StopRequests, own_stop_files
from train.loop.trainer import Trainer
from train.models.kernels import check_machine
from train.models.pretrained import check_pretrained
from train.system.lease import Lease
from train.system.patience import patiently
from train.tasks.registry import kind_of
from train.tasks.task import Task
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
    world.run_on_main(lambda: check_pretrained(config.model, config.positions))
    world.run_on_main(lambda: refuse_if_diverged(config))
    world.run_on_main(lambda: patiently(lambda: folder.mkdir(parents=True, exist_ok=True)))
    check_shared("output_dir", folder, world)
    task = kind_of(config).open_task(config, world, requests.interrupting)
    try:
        config = settle_base(config, world)
        trainer = _build_trainer(config, world, requests, task, plan, lease)
        world.run_on_main(lambda: _keep(task, folder))
    except BaseException:
        task.end()
        raise
    return trainer


def _build_trainer(
    config: TrainConfig,
    world: World,
    requests: StopRequests,
    task: Task,
    plan: EnginePlan,
    lease: Lease | None,
) -> Trainer:
    folder = config.folder
    run_identity = checkpoint.identity(config, world.size, plan.layout, task.identity)
    resume, saved, consumed = _find(config, folder, run_identity, task, world)
    by_deepspeed = saved is not None and checkpoint.deepspeed_reads(saved, run_identity)
    engine = build_engine(config, plan, world.device, by_deepspeed)
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
        task,
        telemetry,
        run_identity,
        folder,
        saver,
        requests,
        lease,
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


def _find(
    config: TrainConfig,
    folder: Path,
    run_identity: dict[str, Any],
    task: Task,
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
    if data != now and world.run_on_main(lambda: task.is_same(data)):
        say(f"The data of {found.path}, {data}, is by content this run's, {now}")
        expected = {**run_identity, "data": data}
    checkpoint.check_identity(found, expected, config.checkpoint.convert)
    saved = checkpoint.convert_if_needed(found, run_identity, world, say)
    return resume, saved, None if saved.path == found.path else saved.path


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


def _keep(task: Task, folder: Path) -> None:
    """Keep what exports look for beside the checkpoints."""
    try:
        task.keep(folder)
    except OSError as error:
        print(
            f"warning: what exports of this run need is not copied to {folder}: {error.strerror}",
            file=sys.stderr,
            flush=True,
        )
