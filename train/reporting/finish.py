"""Ends a run: state.json, summary.json, the heat map, and a few lines a person enjoys reading."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from alphadecay.inspect.run.goodput import goodput, read_attempts
from alphadecay.inspect.run.metrics import finite_or_none
from train.config.run_folder import ATTEMPTS, HEATMAP, METRICS, SUMMARY
from train.loop.run_status import State, write_state
from train.loop.stopping.signals import exit_code
from train.loop.trainer import Trainer
from train.models.build import count_parameters
from train.reporting.console_summary import print_closing_summary
from train.reporting.heatmap import write_heatmaps
from train.system.provenance import own_provenance
from train.telemetry.metrics import read_metrics
from train.telemetry.summary import read_summary, write_summary


@contextmanager
def running(trainer: Trainer) -> Iterator[None]:
    """Keep state.json: running within, failed where something is raised."""
    own_provenance()  # now, not at the end: the files may change under the run
    _state(trainer, "running")
    try:
        yield
    except BaseException as error:
        with suppress(OSError):  # a full disk may be what failed
            _state(trainer, "failed", f"{error}" or type(error).__name__)
        raise


def leave(trainer: Trainer) -> int:
    """Write the last line and state.json, and return the exit code.

    Collective: the first rank to end makes the launcher end the others.
    """
    finished = not trainer.stopped
    if not finished:
        steps = trainer.config.run.steps
        kept = f"checkpoint {trainer.saved}" if trainer.saved else "nothing to save yet"
        trainer.telemetry.message(
            f"stopped at step {trainer.step} of {steps} ({trainer.stopped}); {kept}; the same "
            "command again goes on"
        )
        trainer.telemetry.close()
    if trainer.world.is_main:
        _state(trainer, "finished" if finished else "stopped", trainer.stopped)
        trainer.requests.honoured()
    trainer.world.barrier()
    return 0 if finished else exit_code()


def _state(trainer: Trainer, state: State, reason: str = "") -> None:
    taken_over = trainer.lease is not None and trainer.lease.lost
    if trainer.world.is_main and not taken_over:  # else it is another job's to say
        saved = str(trainer.saved) if trainer.saved else None
        # Where the last save failed, the next start goes on from an earlier step.
        step = max(trainer.saves.step, 0) if state == "stopped" else trainer.step
        write_state(
            trainer.folder,
            state,
            step=step,
            steps=trainer.config.run.steps,
            reason=reason,
            checkpoint=saved,
        )


def close(trainer: Trainer, elapsed: float, chosen: str = "") -> None:
    """End the run's output. Collective; only rank 0 writes.

    Args:
        elapsed: seconds of this process, set-up included.
        chosen: what auto took and why; empty where nothing was auto.
    """
    figures = trainer.telemetry.summary()
    trainer.telemetry.close()
    if not trainer.world.is_main:
        return
    more = {"chosen": chosen} | figures
    _or_warn("summary and pictures", lambda: _tell_the_end(trainer, more, elapsed))


def _tell_the_end(trainer: Trainer, more: Mapping[str, Any], elapsed: float) -> None:
    decay = trainer.decay
    alphas = decay.alphas if decay is not None else {}
    weight_decays = decay.weight_decays if decay is not None else {}
    path = trainer.folder / SUMMARY
    # A run that was done already keeps its summary: this process has trained nothing to speak of.
    kept = None if trainer.telemetry.began else read_summary(path)
    summary = kept or finite_or_none(_facts(trainer) | dict(more))
    if kept is None:
        _or_warn(SUMMARY, lambda: write_summary(path, summary))
    if weight_decays:
        _or_warn(HEATMAP, lambda: _picture(trainer, alphas, weight_decays))
    print_closing_summary(summary, alphas, weight_decays, trainer.folder, elapsed)


def _picture(
    trainer: Trainer, alphas: Mapping[str, float], weight_decays: Mapping[str, float]
) -> None:
    write_heatmaps(
        trainer.folder / HEATMAP,
        alphas,
        weight_decays,
        read_metrics(trainer.folder / METRICS, "refresh"),
        title=f"{trainer.config.name}, step {trainer.step}",
    )


def _or_warn(what: str, action: Callable[[], object]) -> None:
    """Do what comes after the last checkpoint: whatever it raises, the run is finished."""
    try:
        action()
    except Exception as error:
        print(
            f"warning: {what} of the finished run failed: {type(error).__name__}: {error}",
            file=sys.stderr,
            flush=True,
        )


def _facts(trainer: Trainer) -> dict[str, Any]:
    config = trainer.config
    figure = trainer.task.figure
    return {
        "name": config.name,
        "task": config.task,
        "world_size": trainer.world.size,
        **trainer.engine.layout,
        **_copies(trainer),
        "micro_batch": config.run.micro_rows,
        "device": trainer.world.device.type,
        "precision": str(trainer.engine.dtype).removeprefix("torch."),
        "method": config.decay.method,
        "data": trainer.identity["data"],
        **own_provenance(),
        "steps": trainer.step,
        "tokens": trainer.progress.tokens,
        "figure": figure._asdict(),
        f"{figure.name}_first": trainer.progress.figure[0],
        figure.name: trainer.progress.figure[1],
        "model_parameters": count_parameters(trainer.engine.module),
        "goodput": goodput(read_attempts(trainer.folder / ATTEMPTS)),
    }


def _copies(trainer: Trainer) -> dict[str, int]:
    """Return how many ranks share a copy of the weights under FSDP2; fewer than all is HSDP."""
    if trainer.engine.layout.get("engine") != "fsdp2":
        return {}
    return {"engine_shard": trainer.config.engine.shard or trainer.world.size}
