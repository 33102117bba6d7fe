"""A learning-rate range test: `python -m train lr-range --config RECIPE [-- --section.key value]`.

Trains the recipe for a few steps, the learning rate rising exponentially from the first to the last
(arXiv 1803.09820), and writes to the run's folder lr_range.png, a picture, and lr_range.json. What
it suggests is where to begin a search, not the end of one: a long run takes less than a short one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.run.metrics import read_metrics
from train.config.command_line import load_config
from train.config.decay import METHODS
from train.config.optim import DECOUPLED
from train.config.run_folder import METRICS
from train.errors import UserError, as_command
from train.experiments.arguments import cut_overrides, overrides_of, whole
from train.experiments.lr_range.plot import write_range_plot
from train.experiments.lr_range.reading import FEWEST, Reading, in_words, read_range
from train.experiments.sweeps.local import program_line
from train.system.files import write_atomically

PLOT = "lr_range.png"
JSON = "lr_range.json"
OWNED = ("optim.lr", "optim.schedule", "optim.min_lr_ratio", "optim.warmup_steps", "run.steps")


def lr_range(options: argparse.Namespace, extra: Mapping[str, str]) -> str:
    """Train, read and draw; return what was found in words.

    Args:
        options: the parsed options.
        extra: overrides of the recipe.

    Raises:
        UserError: settings that cannot be, a folder that is taken, a run that did not begin.
    """
    for key in OWNED:
        if key in extra:
            raise UserError(f"--{key} cannot stand after --: the range test sets it")
    high = _highest(options, _as_words(options.config, extra))
    if not 0 < options.low < high:
        raise UserError(f"--from is {options.low:g} and --to {high:g}; it must rise, above 0")
    arguments = _arguments(options, high, extra)
    config = load_config(arguments)
    folder = options.out or Path("runs") / f"{config.name}-lr-range"
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; remove it, or name another with --out")
    arguments += ["--output_dir", str(folder)]
    code = subprocess.run(program_line(arguments, options.ranks)).returncode
    rates, losses = _measured(folder)
    if not losses:
        raise UserError(f"the run took no step and ended with code {code}; see what it said above")
    reading = read_range(rates, losses)
    _write(folder, reading, config.name)
    return f"{in_words(reading)}\nwritten to {folder}: {PLOT}, {JSON}"


def _highest(options: argparse.Namespace, recipe: list[str]) -> float:
    """Return the last rate: as given, or 1, or less where a step would decay a weight whole.

    Raises:
        UserError: as given it would.
    """
    config = load_config(recipe)
    method = METHODS[config.decay.method]
    decay = config.optim.weight_decay * (config.decay.s2 if method.scales_base else 1.0)
    if not method.decays or config.optim.name not in DECOUPLED or decay == 0:
        return float(options.high or 1.0)
    bound = float(f"{0.9 / decay:.2g}")
    if options.high and options.high > bound:
        raise UserError(
            f"--to is {options.high:g}, at which a step would decay weights by {options.high:g} x "
            f"{decay:g}, to nothing or beyond; set --to {bound:g}, or less decay: "
            "-- --decay.method none"
        )
    return float(options.high or min(1.0, bound))


def _arguments(options: argparse.Namespace, high: float, extra: Mapping[str, str]) -> list[str]:
    """Return the arguments of the run, but for its folder."""
    settings = {
        "optim.schedule": "range",
        "optim.lr": f"{high!r}",
        "optim.min_lr_ratio": f"{options.low / high!r}",
        "optim.warmup_steps": "0",
        "run.steps": str(options.steps),
        "eval.every": str(options.steps),
        "checkpoint.every": "0",
        "log.every": "1",
    }
    return _as_words(options.config, {**settings, **extra})


def _as_words(recipe: str, overrides: Mapping[str, str]) -> list[str]:
    words = ["--config", recipe]
    for key, text in overrides.items():
        words += [f"--{key}", text]
    return words


def _measured(folder: Path) -> tuple[list[float], list[float]]:
    """Return learning rate and loss of every step; a loss that was not finite is NaN."""
    try:
        records = read_metrics(folder / METRICS, "train")
    except (OSError, InspectError):
        return [], []
    losses = [float("nan") if record["loss"] is None else record["loss"] for record in records]
    return [record["lr"] for record in records], losses


def _write(folder: Path, reading: Reading, name: str) -> None:
    found = {**asdict(reading), "suggested": reading.suggested}
    try:
        write_atomically(folder / JSON, json.dumps(found, indent=1) + "\n")
        write_range_plot(folder / PLOT, reading, f"Learning-rate range test, {name}")
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train lr-range", description=__doc__)
    parser.usage = "%(prog)s --config RECIPE [options] [-- --section.key value ...]"
    add = parser.add_argument
    add("--config", required=True, metavar="RECIPE", help="a shipped recipe's name, or a path")
    add("--from", dest="low", type=float, default=1e-6, metavar="LR", help="default 1e-6")
    add(
        "--to",
        dest="high",
        type=float,
        metavar="LR",
        help="default 1, or less where the decay does not allow that",
    )
    add("--steps", type=whole(FEWEST), default=100, metavar="N", help="default 100")
    add("--ranks", type=whole(1), default=1, metavar="R", help="processes; default 1")
    add("--out", type=Path, metavar="FOLDER", help="the run's; default runs/NAME-lr-range")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    own_words, override_words = cut_overrides(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(own_words)
    return as_command(lambda: print(lr_range(options, overrides_of(override_words))))
