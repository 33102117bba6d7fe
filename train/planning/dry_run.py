"""Tells what a run would be without running it: nothing is built, downloaded or written.

Every mistake that can be seen from here is told at once, not only the first.
"""

from __future__ import annotations

from dataclasses import dataclass

from alphadecay.sharding.refusals import refuse_configuration
from train.config import TrainConfig
from train.config.command_line import dump_config
from train.config.decay import METHODS
from train.engines.build import EnginePlan
from train.errors import Problems, UserError
from train.loop.auto_decay import choose_base
from train.loop.decay_methods import check_method
from train.models.kernels import check_machine
from train.models.pretrained import check_pretrained
from train.planning.checkpoint_plan import checkpoint_lines, start_line
from train.planning.device import GB, Device, device_here
from train.planning.gradient_plan import gradient_lines
from train.planning.model_shapes import model_without_weights, parameter_lines
from train.planning.refresh_plan import refresh_lines
from train.planning.size_plan import Planned, plan_sizes
from train.tasks.registry import kind_of
from train.telemetry.sinks import check_sinks


@dataclass(frozen=True)
class DryRun:
    """The findings of a dry run.

    Args:
        facts: the run in two lines: ranks, batch and memory of each; tokens, and where it starts.
        details: a block of lines for each matter.
        configuration: the resolved configuration as YAML.
        problems: what would stop the run, each with its way out.
    """

    facts: tuple[str, str]
    details: tuple[tuple[str, ...], ...]
    configuration: str
    problems: tuple[str, ...]

    @property
    def answer(self) -> str:
        """Say whether the run would run."""
        if not self.problems:
            return "It would run."
        count = len(self.problems)
        return f"It would not run: {count} problem{'s' if count > 1 else ''}."


def dry_run(c: TrainConfig, world_size: int, device: Device | None = None) -> DryRun:
    """Return what the run would be on so many ranks, and what would stop it.

    Args:
        device: what each rank computes on; None for this machine's, whose fitness is a part of the
            question then.
    """
    problems = Problems()
    planned = plan_sizes(c, world_size, device or device_here(world_size), problems)
    c = planned.config
    engine = planned.engine
    if device is None:
        problems.attempt(lambda: check_machine(c.model))
    problems.attempt(lambda: check_pretrained(c.model, c.positions))
    problems.attempt(lambda: check_sinks(c))
    model = model_without_weights(c.model, c.positions)
    details = [tuple(parameter_lines(c, model)), tuple(planned.lines())]
    if engine is not None and engine.ds_config is not None:
        details.append(tuple(gradient_lines(engine.ds_config, world_size, engine.accumulation)))
    data = kind_of(c).plan_data(c, problems)
    details.append(data.lines)
    c, base = _with_base(c, problems)
    details.append(base)
    method = METHODS[c.decay.method]
    if method.family == "spectral":
        details.append(tuple(refresh_lines(c, model, world_size)))
    if method.scales_base or c.decay.base == "auto":
        problems.attempt(lambda: _check_method(c, engine))
    start = start_line(c, engine, world_size, data, problems)
    checkpoints = checkpoint_lines(c, model, engine, world_size, problems)
    details.append((*checkpoints, f"  {start}"))
    return DryRun(
        _facts(c, world_size, planned, start),
        tuple(block for block in details if block),
        dump_config(c),
        tuple(problems.found),
    )


def _facts(c: TrainConfig, world_size: int, planned: Planned, start: str) -> tuple[str, str]:
    ranks = f"{world_size} rank{'s' if world_size > 1 else ''}"
    batch = held = ""
    if planned.accumulation:
        batch = f", {planned.accumulation} x {c.run.micro_rows} rows a step"
    if planned.memory:
        held = f", about {planned.memory.peak / GB:,.3g} GB of memory each"
    return (
        f"{ranks}{batch}{held}.",
        f"{c.positions_of_run:,} tokens in {c.run.steps:,} steps; {start}.",
    )


def _with_base(c: TrainConfig, problems: Problems) -> tuple[TrainConfig, tuple[str, ...]]:
    """Return the configuration with the base decay of decay.base auto, and a sentence of it."""
    if c.decay.base == "given" or c.task != "language_modelling":  # which the method refuses
        return c, ()
    found = problems.attempt(lambda: choose_base(c))
    if found is None:
        return c, ("decay.base auto: the base decay is known once the text is prepared",)
    return found[0], (found[1],)


def _check_method(c: TrainConfig, engine: EnginePlan | None) -> None:
    """Refuse what the method would refuse.

    Raises:
        UserError: its reason.
    """
    check_method(c)
    try:
        refuse_configuration((engine.ds_config if engine else None) or {})
    except ValueError as error:
        raise UserError(
            f"decay.method {c.decay.method} cannot work on this run ({c.deepspeed.config}): {error}"
        ) from error
