"""Pre-trains a language model; deepspeed, torchrun and python start it alike.

deepspeed --num_gpus 8 train/pretrain.py --config llama_60m [--section.key VALUE ...]
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

# As a script, Python puts this folder first on the path, where our module names would hide other
# packages' own.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from train.cluster.launch_environment import environment, tell_launcher  # noqa: E402
from train.cluster.restart import open_descriptors  # noqa: E402
from train.errors import EXIT_USER_ERROR, Stopped, UserError  # noqa: E402
from train.loop.run_status import note_refusal, read_state, write_state  # noqa: E402
from train.loop.stopping.diverged import refuse_if_diverged  # noqa: E402
from train.loop.stopping.signals import StopRequests, exit_code  # noqa: E402
from train.system.determinism import make_deterministic  # noqa: E402
from train.system.environment import prepare_environment  # noqa: E402
from train.system.files import write_atomically  # noqa: E402
from train.system.missing_packages import explained  # noqa: E402
from train.system.streams import PipeSafeStream  # noqa: E402

if TYPE_CHECKING:
    from train.cluster.distributed import World
    from train.config import TrainConfig
    from train.config.arguments import DryRunFlags
    from train.loop.attempt import Attempt
    from train.system.lease import Lease

_INHERITED = open_descriptors()  # before anything else is opened
_PATIENCE = 5.0  # seconds; launchers look after their ranks about once a second


def main() -> int:
    """Run the command line and return its exit code.

    What a user can mend is one message, not a traceback.
    """
    sys.stdout = PipeSafeStream(sys.stdout)  # type: ignore[assignment]
    sys.stderr = PipeSafeStream(sys.stderr)  # type: ignore[assignment]
    requests = StopRequests()
    try:
        try:
            return _start(requests)
        except ModuleNotFoundError as error:
            raise explained(error) from error
    except UserError as error:
        return _refuse(f"error: {error}", requests)


def _start(requests: StopRequests) -> int:
    # first: a signal during the imports must not end the process at a place of its own
    requests.install()
    prepare_environment()
    rank, local_rank, world_size = environment()
    from train.config.arguments import split_dry_run
    from train.config.command_line import load_command
    from train.config.validate import check_batch

    arguments, dry_run = split_dry_run(sys.argv[1:], world_size)
    if dry_run is not None:
        return 0 if local_rank else _dry_run(arguments, dry_run)
    config = load_command(arguments)
    try:
        check_batch(config, world_size)
    except UserError as error:
        if rank == 0:
            note_refusal(config.folder, f"{error}", held=False)
        raise
    if read_state(config.folder).get("state") == "failed":
        # Now, not in the building of the run: a launcher starts ranks that end again and again.
        refuse_if_diverged(config)
    return _run(config, requests)


def _refuse(message: str, requests: StopRequests) -> int:
    """Say once per node why there is no run, and return the exit code."""
    if os.environ.get("LOCAL_RANK", "0") != "0":
        # The first rank speaks for all of them, and the launcher then stops the others. Where it
        # does not, this rank alone is refused.
        try:
            with requests.interrupting():
                time.sleep(_PATIENCE)
        except Stopped:
            return EXIT_USER_ERROR
    print(message, file=sys.stderr, flush=True)
    tell_launcher(message)
    return EXIT_USER_ERROR


def _dry_run(arguments: list[str], flags: DryRunFlags) -> int:
    """Say what the run would be; the exit code is 2 where something would stop it."""
    from train.planning.command import dry_run_command

    return dry_run_command(arguments, flags)


def _run(config: TrainConfig, requests: StopRequests) -> int:
    # Here, not above: --help and a misspelt key should not wait for torch, DeepSpeed and
    # transformers.
    from train.cluster import distributed
    from train.cluster.restart import Restart
    from train.loop.attempt import Attempt
    from train.loop.hold import output_dir_held

    started = time.perf_counter()
    if config.run.deterministic:
        make_deterministic()
    world = distributed.start(config.deepspeed.timeout_minutes)
    _tell_engine(config, world)
    config, chosen = _sizes(config, world)
    restart = Restart(world, _INHERITED) if chosen else None
    attempt = Attempt(config, world, restart, chosen)
    try:
        with output_dir_held(config.folder, world, requests) as lease:
            return _train(attempt, requests, lease, started)
    except Stopped as reason:
        if world.is_main:
            print(f"stopped before the first step ({reason})", flush=True)
        world.barrier()
        return exit_code()


def _tell_engine(config: TrainConfig, world: World) -> None:
    """Say once which engine auto took and why; ranks that start again with less have said it."""
    from train.cluster.restart import restarts
    from train.engines.build import why_engine

    why = why_engine(config)
    if why and world.is_main and not restarts():
        print(why, flush=True)


def _sizes(config: TrainConfig, world: World) -> tuple[TrainConfig, str]:
    """Return the configuration without auto, and what was taken and why. Collective.

    Raises:
        UserError: nothing fits.
    """
    from train.cluster.restart import restarts
    from train.planning.auto import choose_here

    try:
        choice = choose_here(config, world, restarts())
    except UserError as error:
        if world.is_main:
            note_refusal(config.folder, f"{error}", held=restarts() > 0)
        raise
    if choice is None:
        return config, ""
    if world.is_main:
        print(choice.line, flush=True)
    return choice.config, choice.line


def _train(attempt: Attempt, requests: StopRequests, lease: Lease, started: float) -> int:
    """Build the run and take its steps. Collective."""
    from train.loop.build import build
    from train.loop.hanging.watch import watched
    from train.models.build import count_parameters
    from train.planning.kept_memory import keep_memory_where_ample
    from train.reporting.finish import close, leave, running
    from train.tasks.registry import kind_of

    config, world = attempt.config, attempt.world
    try:
        with attempt.guarded():
            trainer = build(config, world, requests, lease)
            keep_memory_where_ample(count_parameters(trainer.engine.module), world)
    except Stopped as reason:
        if world.is_main:
            prepared = kind_of(config).rows_ready(config)
            write_state(config.folder, "stopped", reason=str(reason), prepared=prepared)
            requests.honoured()
        raise
    except Exception as reason:
        if world.is_main and not lease.lost:
            note_refusal(config.folder, f"{reason}" or type(reason).__name__, held=True)
        raise

    def begun() -> None:  # not before: a run that is refused leaves another's results as they are
        attempt.succeeded()
        if world.is_main:
            _keep_config(trainer.config)

    trainer.telemetry.journal.on_open = begun
    if attempt.chosen:
        trainer.telemetry.chose(trainer.step, attempt.chosen)
    with running(trainer), attempt.guarded():
        with watched(trainer):
            trainer.train()
        if not trainer.stopped:
            close(trainer, time.perf_counter() - started, attempt.chosen)
    return leave(trainer)


def _keep_config(config: TrainConfig) -> None:
    from train.config.command_line import dump_config
    from train.config.run_folder import CONFIG

    path = config.folder / CONFIG
    try:
        write_atomically(path, dump_config(config))
    except OSError as error:  # reports miss it; the run does not
        print(f"warning: cannot write {path}: {error.strerror}", file=sys.stderr, flush=True)


def _leave(code: int) -> None:
    """End at once: gloo's threads abort a normal interpreter exit now and then (pytorch#190489)."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    try:
        status = main()
    except SystemExit as exit_:
        status = int(exit_.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    _leave(status)
