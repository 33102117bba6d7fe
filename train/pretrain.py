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
from train.errors import EXIT_USER_ERROR, Stopped, UserError  # noqa: E402
from train.loop.run_status import write_state  # noqa: E402
from train.loop.stopping.signals import StopRequests, exit_code  # noqa: E402
from train.system.environment import prepare_environment  # noqa: E402
from train.system.missing_packages import explained  # noqa: E402
from train.system.streams import PipeSafeStream  # noqa: E402

if TYPE_CHECKING:
    from train.config import TrainConfig
    from train.config.arguments import DryRunFlags

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
    _, local_rank, world_size = environment()
    from train.config.arguments import split_dry_run
    from train.config.command_line import load_command
    from train.config.validate import check_batch

    arguments, dry_run = split_dry_run(sys.argv[1:], world_size)
    if dry_run is not None:
        return 0 if local_rank else _dry_run(arguments, dry_run)
    config = load_command(arguments)
    check_batch(config, world_size)
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
    from train.config.command_line import dump_config
    from train.config.run_folder import CONFIG
    from train.loop.build import build
    from train.planning.auto import choose_here
    from train.reporting.finish import close, leave, running

    started = time.perf_counter()
    world = distributed.start(config.deepspeed.timeout_minutes)
    choice = choose_here(config, world)
    if choice is not None:
        config = choice.config
        if world.is_main:
            print(choice.line, flush=True)
    try:
        trainer = build(config, world, requests)
    except Stopped as reason:
        if world.is_main:
            print(f"stopped before the first step ({reason})", flush=True)
            write_state(config.folder, "stopped", reason=str(reason))
        world.barrier()
        return exit_code()
    if world.is_main:  # not before: a run that is refused leaves the results of another as they are
        (trainer.folder / CONFIG).write_text(dump_config(config))
    with running(trainer):
        trainer.train()
        if not trainer.stopped:
            close(trainer, time.perf_counter() - started)
    return leave(trainer)


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
