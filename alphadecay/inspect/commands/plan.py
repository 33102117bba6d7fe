"""Say what a refresh costs and what a rank holds, before anything is run or allocated.

The modules of a model, who owns each, the bytes and seconds of a refresh, the
imbalance, the memory of a rank, and the share of the steps between two
refreshes: by arithmetic from shapes and from measured constants.

Examples: alphadecay plan --model llama-1b --world-size 64 --zero 3

alphadecay plan --model config.json --fsdp 8 --json
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alphadecay.inspect.plan.machines import Machine
    from alphadecay.inspect.plan.memory import Spread
    from alphadecay.inspect.plan.model import PlannedModel


MOST_RANKS = 1 << 16  # of which each gets a line in the result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--model",
        required=True,
        metavar="MODEL",
        help="llama-60m, -130m, -350m, -1b, -7b, -8b, -13b, -33b, -65b or -70b; a config.json of "
        "Hugging Face; a folder that has one, or a stored model, of which the headers are read",
    )
    parser.add_argument(
        "--world-size", type=_ranks, metavar="N", help="ranks in all; default those of --fsdp, or 1"
    )
    spread = parser.add_mutually_exclusive_group()
    spread.add_argument(
        "--zero", type=int, choices=range(4), help="DeepSpeed's stage; without it and --fsdp, DDP"
    )
    spread.add_argument(
        "--fsdp", type=_ranks, metavar="N", help="FSDP2 over N ranks; with more in all, replicas"
    )
    parser.add_argument(
        "--precision",
        choices=("bf16", "float32"),
        default="bf16",
        help="what ZeRO computes in; DDP and FSDP2 keep float32 weights either way; default bf16",
    )
    parser.add_argument(
        "--device", choices=("h200", "cpu"), default="h200", help="whose measured constants"
    )
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="measure this machine's GPU, or its CPU with --device cpu; takes seconds",
    )
    parser.add_argument(
        "--interval", type=_count, default=500, metavar="N", help="steps between refreshes; 500"
    )
    step = parser.add_mutually_exclusive_group()
    step.add_argument(
        "--tokens", type=_count, metavar="N", help="of a step over all ranks; default 131072"
    )
    step.add_argument("--step-seconds", type=_seconds, metavar="S", help="of a step, if known")
    parser.add_argument("--modules", action="store_true", help="a line for each module")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Print the plan.

    Raises:
        InspectError: no such model, or ranks that do not divide.
    """
    from alphadecay.inspect.plan.model import read_model
    from alphadecay.inspect.plan.plan import PAPER_TOKENS, make_plan, step_of
    from alphadecay.inspect.plan.text import plan_text

    ranks = options.world_size or options.fsdp or 1
    spread = _spread(options, ranks)
    model = read_model(options.model)
    machine = _machine(options, model)
    tokens = options.tokens or PAPER_TOKENS
    step = step_of(model, ranks, machine, options.interval, tokens, options.step_seconds)
    plan = make_plan(model, ranks, spread, machine, step)
    print(json.dumps(plan.as_dict()) if options.json else plan_text(plan, options.modules))
    return 0


def _spread(options: argparse.Namespace, ranks: int) -> Spread:
    from alphadecay.inspect.plan.plan import fsdp, replicated, zero

    if options.fsdp is not None:
        return fsdp(options.fsdp, ranks)
    if options.zero is not None:
        return zero(options.zero, ranks, options.precision == "bf16")
    return replicated(ranks)


def _machine(options: argparse.Namespace, model: PlannedModel) -> Machine:
    from alphadecay.inspect.plan.machines import MACHINES

    if not options.calibrate:
        return MACHINES[options.device]
    import torch

    from alphadecay.inspect.errors import InspectError
    from alphadecay.inspect.plan.calibrate import calibrate

    if options.device != "cpu" and not torch.cuda.is_available():
        raise InspectError("--calibrate finds no GPU here; --device cpu measures this CPU")
    device = torch.device("cpu" if options.device == "cpu" else "cuda")
    return calibrate([module.shape for module in model.modules], device)


def _ranks(text: str) -> int:
    value = _count(text)
    if value > MOST_RANKS:
        raise argparse.ArgumentTypeError(f"{value:,} is more than {MOST_RANKS:,}")
    return value


def _count(text: str) -> int:
    value = int(text)
    if not value >= 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value
