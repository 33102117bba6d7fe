"""Pre-trains a LLaMA. Started alike by deepspeed, torchrun and python:

deepspeed --num_gpus 8 train/pretrain.py --config train/recipes/llama_60m.yaml [--section.key value
...]
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

# As a script, Python puts this folder first on the path, where our module names would hide other
# packages' own.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from train.config import TrainConfig  # noqa: E402
from train.config.command_line import dump_config, load_config, split_dry_run  # noqa: E402
from train.config.validate import accumulation_steps  # noqa: E402
from train.errors import EXIT_USER_ERROR, Stopped, UserError  # noqa: E402
from train.loop.run_status import write_state  # noqa: E402
from train.loop.stopping.signals import StopRequests, exit_code  # noqa: E402
from train.system.environment import prepare_environment  # noqa: E402
from train.system.streams import PipeSafeStream  # noqa: E402


def main() -> int:
    """The command line.

    Returns the exit code; what a user can mend is one message, not a traceback.
    """
    sys.stdout, sys.stderr = PipeSafeStream(sys.stdout), PipeSafeStream(sys.stderr)  # type: ignore[assignment]
    requests = StopRequests()
    # first: a signal during the imports must not end the process at a place of its own
    requests.install()
    prepare_environment()
    from train.cluster.distributed import environment  # with torch: after the handlers

    _, local_rank, world_size = environment()
    try:
        arguments, dry_ranks = split_dry_run(sys.argv[1:], world_size)
        config = load_config(arguments)
        if dry_ranks:
            return _dry_run(config, dry_ranks, local_rank)
        accumulation_steps(config, world_size)
        return _run(config, requests)
    except UserError as error:
        if local_rank == 0:
            print(f"error: {error}", file=sys.stderr, flush=True)
        else:
            # the launcher stops everybody when the first rank ends: let the one that speaks be it
            time.sleep(1.0)
        return EXIT_USER_ERROR


def _dry_run(config: TrainConfig, world_size: int, local_rank: int) -> int:
    """Says what the run would be. Exit code 2 where something would stop it."""
    if local_rank:
        return 0
    from train.planning.command import print_dry_run
    from train.planning.dry_run import dry_run

    return print_dry_run(*dry_run(config, world_size))


def _run(config: TrainConfig, requests: StopRequests) -> int:
    # Here, not above: --help and a misspelt key should not wait for torch, DeepSpeed and
    # transformers.
    from train.cluster import distributed
    from train.config.run_folder import CONFIG
    from train.loop.build import build
    from train.reporting.finish import close, leave, running

    started = time.perf_counter()
    world = distributed.start(config.deepspeed.timeout_minutes)
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
    """Ends at once: gloo's threads abort a normal interpreter exit now and then (pytorch#190489)."""
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
