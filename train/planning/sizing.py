"""The command `python -m train sizing`: model x GPUs -> ZeRO stage, micro batch, memory and hours.

Everything is arithmetic of the dry run on shapes; no GPU is needed. Hours follow from an MFU that
is assumed, or was measured where the caller says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from alphadecay.inspect.plan.known_peaks import ASSUMED_MFU, PEAK_BF16
from train.config import TrainConfig
from train.config.command_line import load_config
from train.errors import UserError, as_command
from train.models import spec_of
from train.planning.auto import Choice, choose
from train.planning.device import GB, Device
from train.planning.sizes import Size
from train.system.environment import prepare_environment
from train.system.provenance import ROOT

MODELS = ("60m", "130m", "350m", "1b")
GPUS = (1, 8, 64)
# Memory of a card in GB -> a card that has it, whose peak the hours are reckoned with.
CARDS = {24: "RTX 4090", 80: "H100", 141: "H200"}
AS_ON_A_GPU = ("--run.precision", "bf16", "--model.fused_cross_entropy", "true")


@dataclass(frozen=True)
class Run:
    """What the MFU of a recipe depends on.

    Args:
        model: one of MODELS.
        ranks: GPUs.
        card: of known_peaks.
        size: ZeRO file and micro batch.
    """

    model: str
    ranks: int
    card: str
    size: Size


NOTHING: Mapping[Run, float] = MappingProxyType({})


def find_fit(model: str, ranks: int, card: str, memory: float) -> Choice | None:
    """Return what auto takes for a recipe on a card; None where nothing fits.

    Args:
        model: one of MODELS.
        card: of known_peaks.
        memory: its bytes.
    """
    device = Device(card, memory, cuda=True, bf16=True)
    try:
        return choose(_recipe(model), ranks, device)
    except UserError:
        return None


def hours(model: str, ranks: int, card: str, mfu: float) -> float:
    """Return the hours of a recipe's steps at a share of the card's dense bf16 peak."""
    c = _recipe(model)
    flops = c.positions_of_run * spec_of(c.model).flops_per_token(c.model, c.positions)
    return flops / (ranks * mfu * PEAK_BF16[card] * 1e12) / 3600


@cache
def _recipe(model: str) -> TrainConfig:
    file = ROOT / "train" / "recipes" / f"llama_{model}.yaml"
    return load_config(["--config", str(file), *AS_ON_A_GPU])


def table(assumed: float = ASSUMED_MFU, measured: Mapping[Run, float] = NOTHING) -> Iterator[str]:
    """Return the table in Markdown, a line for each model, number of GPUs and card.

    Args:
        assumed: the MFU of every run that was not measured.
        measured: the MFU of those that were.
    """
    yield "| model | GPUs | memory of each | ZeRO | micro batch | GB a rank | MFU | hours |"
    yield "|---|---|---|---|---|---|---|---|"
    for model in MODELS:
        for ranks in GPUS:
            yield from (_line(model, ranks, memory, assumed, measured) for memory in CARDS)


def _line(
    model: str, ranks: int, memory: int, assumed: float, measured: Mapping[Run, float]
) -> str:
    card = CARDS[memory]
    fit = find_fit(model, ranks, card, memory * GB)
    head = f"| {model.upper()} | {ranks} | {memory} GB"
    if fit is None:
        return f"{head} | does not fit | | | | |"
    used = f"`{fit.size.ds_config}` | {fit.size.micro_batch} | {fit.memory.peak / GB:.1f}"
    if fit.size.offloads:
        return f"{head} | {used} | – | the CPUs decide |"
    run = Run(model, ranks, card, fit.size)
    mfu = measured.get(run, assumed)
    source = "measured" if run in measured else "assumed"
    return f"{head} | {used} | {mfu:.0%} {source} | {hours(model, ranks, card, mfu):.2g} |"


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
