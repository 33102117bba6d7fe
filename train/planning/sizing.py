"""The command `python -m train sizing`: model x GPUs -> ZeRO stage, micro batch, memory and hours.

Everything is arithmetic of the dry run on shapes; no GPU is needed and nothing is measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import torch

from train.config import TrainConfig
from train.config.command_line import load_config
from train.config.validate import accumulation_steps
from train.engines.ds_config import load_ds_config
from train.errors import as_command
from train.models import spec_of
from train.planning.activations import Activations, count_activations
from train.planning.memory import predict_memory, sharding_of
from train.system.environment import prepare_environment
from train.system.provenance import ROOT
from train.telemetry.known_peaks import ASSUMED_MFU, PEAK_BF16

MODELS = ("60m", "130m", "350m", "1b")
GPUS = (1, 8, 64)
# Memory of a card in GB -> a card that has it, whose peak the hours are reckoned with.
CARDS = {24: "RTX 4090", 80: "H100", 141: "H200"}
# In the order in which they are tried: each further one communicates more.
STAGES = ("zero1", "zero2", "zero3", "zero2_offload", "zero3_offload")
FILLED = 0.8  # of the memory; the rest is the allocator's, DeepSpeed's buffers' and the libraries'
ENOUGH_ROWS = 8  # of a micro batch, before a further stage is tried
GB = 1e9


@dataclass(frozen=True)
class Fit:
    """How a run fits.

    Attributes:
        ds_config: name of the DeepSpeed JSON.
        micro_batch: rows a rank and forward pass.
        memory: bytes on a rank, weights to activations.
    """

    ds_config: str
    micro_batch: int
    memory: float

    @property
    def offloads(self) -> bool:
        """True where the optimizer runs on the host's CPUs, which then decide the speed."""
        return self.ds_config.endswith("_offload")


def find_fit(model: str, ranks: int, capacity: float) -> Fit | None:
    """Return the first stage that fits with enough rows, else the most rows that fit anywhere.

    Args:
        model: one of MODELS.
        capacity: bytes of a card.
    """
    best: Fit | None = None
    rows = _recipe(model).run.global_batch // ranks
    for name in STAGES:
        fit = _most_rows(model, ranks, FILLED * capacity, name)
        if fit and fit.micro_batch >= min(ENOUGH_ROWS, rows):
            return fit
        if fit and (best is None or fit.micro_batch > best.micro_batch):
            best = fit
    return best


def _most_rows(model: str, ranks: int, room: float, ds_config: str) -> Fit | None:
    micro_batch = _recipe(model).run.global_batch // ranks
    while micro_batch:
        memory = needed(model, ranks, ds_config, micro_batch)
        if memory <= room:
            return Fit(ds_config, micro_batch, memory)
        micro_batch //= 2
    return None


def needed(model: str, ranks: int, ds_config: str, micro_batch: int) -> float:
    """Return the bytes on a rank that the dry run calls the largest sum."""
    recipe = _recipe(model)
    run = replace(recipe.run, micro_batch=micro_batch)
    files = replace(recipe.deepspeed, config=str(ROOT / "ds_configs" / f"{ds_config}.json"))
    c = replace(recipe, run=run, deepspeed=files)
    resolved = load_ds_config(c, accumulation_steps(c, ranks), ranks)
    sharding = sharding_of(resolved, ranks)
    held = predict_memory(_shapes(model), sharding)
    kept = _activations(model, micro_batch)
    weights = 0 if sharding.offload_parameters else held.weights
    states = 0 if sharding.offload_optimizer else held.gradients + held.optimizer
    return weights + states + kept.layers + kept.head


def hours(model: str, ranks: int, card: str, mfu: float) -> float:
    """Return the hours of a recipe's steps at a share of the card's dense bf16 peak."""
    c = _recipe(model)
    length = c.data.sequence_length
    tokens = c.run.steps * c.run.global_batch * length
    flops = tokens * spec_of(c.model).flops_per_token(c.model, length)
    return flops / (ranks * mfu * PEAK_BF16[card] * 1e12) / 3600


@cache
def _recipe(model: str) -> TrainConfig:
    file = ROOT / "train" / "recipes" / f"llama_{model}.yaml"
    return load_config(["--config", str(file), "--run.precision", "bf16"])


@cache
def _shapes(model: str) -> tuple[tuple[int, ...], ...]:
    c = _recipe(model)
    spec = spec_of(c.model)
    with torch.device("meta"):
        module = spec.bare(spec.config(replace(c.model, attention="sdpa"), c.data.sequence_length))
    return tuple(tuple(parameter.shape) for parameter in module.parameters())


@cache
def _activations(model: str, micro_batch: int) -> Activations:
    c = _recipe(model)
    return count_activations(c.model, micro_batch, c.data.sequence_length, True)


def table(mfu: float = ASSUMED_MFU) -> Iterator[str]:
    """Return the table in Markdown, a line for each model, number of GPUs and card."""
    yield "| model | GPUs | memory of each | ZeRO | micro batch | GB a rank | hours |"
    yield "|---|---|---|---|---|---|---|"
    for model in MODELS:
        for ranks in GPUS:
            yield from (_line(model, ranks, memory, mfu) for memory in CARDS)


def _line(model: str, ranks: int, memory: int, mfu: float) -> str:
    fit = find_fit(model, ranks, memory * GB)
    head = f"| {model.upper()} | {ranks} | {memory} GB"
    if fit is None:
        return f"{head} | does not fit | | | |"
    reckoned = hours(model, ranks, CARDS[memory], mfu)
    last = "the CPUs decide" if fit.offloads else f"{reckoned:.2g}"
    stage = f"`ds_configs/{fit.ds_config}.json`"
    return f"{head} | {stage} | {fit.micro_batch} | {fit.memory / GB:.1f} | {last} |"


def main(arguments: Sequence[str]) -> int:
    """Print the table; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train sizing",
        description="Print which ZeRO stage and micro batch fit the paper's models on which GPUs.",
    )
    parser.add_argument(
        "--mfu",
        type=float,
        default=ASSUMED_MFU,
        help=f"share of the cards' dense bf16 peak that the hours assume; {ASSUMED_MFU}",
    )
    options = parser.parse_args(list(arguments))
    if not 0 < options.mfu <= 1:
        parser.error(f"--mfu is {options.mfu}; it must be above 0 and at most 1")
    return as_command(lambda: _print(options.mfu))


def _print(mfu: float) -> None:
    prepare_environment()
    print("\n".join(table(mfu)))
