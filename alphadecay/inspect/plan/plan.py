"""Puts a plan together: a model on so many ranks, its refresh and what a rank holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.plan.machines import Machine
from alphadecay.inspect.plan.memory import FLOAT32, Memory, Spread, predict_memory, refresh_bytes
from alphadecay.inspect.plan.model import PlannedModel
from alphadecay.inspect.plan.refresh import RefreshPlan, plan_refresh

PAPER_TOKENS = 512 * 256  # of a step: rows and their length, arXiv 2506.14562
_TRAINING_FLOPS = 6  # of a parameter and a token: forward and backward


@dataclass(frozen=True)
class Step:
    """What a refresh is compared with.

    Args:
        interval: steps between two refreshes.
        seconds: of one step.
        source: where the seconds are from, for a person.
    """

    interval: int
    seconds: float
    source: str


@dataclass(frozen=True)
class Plan:
    """A model on so many ranks.

    Args:
        model: its shapes.
        world_size: all ranks.
        spread: how they share it.
        machine: what each computes on.
        refresh: of all modules.
        memory: of the fullest rank.
        refresh_memory: bytes beside it on the owner of the largest module.
        step: what the refresh is compared with.
    """

    model: PlannedModel
    world_size: int
    spread: Spread
    machine: Machine
    refresh: RefreshPlan
    memory: Memory
    refresh_memory: int
    step: Step

    @property
    def share(self) -> float:
        """What part of the steps between two refreshes, and the refresh, is the refresh."""
        steps = self.step.interval * self.step.seconds
        return self.refresh.seconds / (steps + self.refresh.seconds)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        return {
            "model": self.model.name,
            "parameters": self.model.parameters,
            "warnings": self.model.warnings,
            "world_size": self.world_size,
            "spread": asdict(self.spread) | {"name": self.spread.name},
            "machine": {**vars(self.machine), "eigenvalues": dict(self.machine.eigenvalues)},
            "refresh": {
                "seconds": self.refresh.seconds,
                "imbalance": self.refresh.imbalance,
                **asdict(self.refresh),
            },
            "memory": asdict(self.memory) | {"refresh": self.refresh_memory},
            "step": asdict(self.step),
            "share": self.share,
        }


def make_plan(
    model: PlannedModel, world_size: int, spread: Spread, machine: Machine, step: Step
) -> Plan:
    """Return the plan of a model.

    Args:
        world_size: a multiple of the ranks that share a copy of the model.
    """
    return Plan(
        model=model,
        world_size=world_size,
        spread=spread,
        machine=machine,
        refresh=plan_refresh(model.modules, world_size, spread, machine),
        memory=predict_memory(model.shapes, spread),
        refresh_memory=refresh_bytes([module.shape for module in model.modules], spread),
        step=step,
    )


def replicated(world_size: int) -> Spread:
    """Return what DDP does: float32 weights, gradients and moments whole on every rank."""
    return Spread(stage=0, ranks=world_size, itemsize=FLOAT32, accumulation=FLOAT32)


def zero(stage: int, world_size: int, bf16: bool) -> Spread:
    """Return what DeepSpeed does as `ds_configs` have it: gradients are summed in float32 from
    stage 1 on.
    """
    itemsize = 2 if bf16 else FLOAT32
    return Spread(stage, world_size, itemsize, FLOAT32 if stage else itemsize)


def fsdp(shared: int, world_size: int) -> Spread:
    """Return what FSDP2 does with float32 parameters, as its mixed precision has them.

    Args:
        shared: ranks that share a copy; with fewer than all, there are replicas (HSDP).

    Raises:
        InspectError: the ranks are no multiple of it.
    """
    if world_size % shared:
        raise InspectError(
            f"--fsdp {shared} does not divide --world-size {world_size}: the ranks are copies of "
            "groups that share the model; give a divisor"
        )
    return Spread(3, shared, FLOAT32, FLOAT32, fsdp2=True)


def step_of(
    model: PlannedModel,
    world_size: int,
    machine: Machine,
    interval: int,
    tokens: int = PAPER_TOKENS,
    seconds: float | None = None,
) -> Step:
    """Return the step that a refresh is compared with.

    Args:
        interval: steps between two refreshes.
        tokens: of a step over all ranks.
        seconds: of a step, where it is known.
    """
    if seconds is not None:
        return Step(interval, seconds, "as given")
    flops = _TRAINING_FLOPS * model.parameters * tokens
    return Step(
        interval,
        flops / (world_size * machine.training),
        f"{tokens:,} tokens at {machine.training / 1e12:.3g} TFLOP/s a rank",
    )
