"""The commands of `python -m train`: a name, the module whose `main` it is, and its summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from train.errors import as_command
from train.system.missing_packages import explained


@dataclass(frozen=True)
class Command:
    """A command.

    Args:
        module: has `main(arguments)`, which returns the exit code.
        summary: what it does, for the list of commands.
    """

    module: str
    summary: str


COMMANDS = {
    "recipe": Command("train.config.recipe_command", "print a recipe with every key, to edit"),
    "prepare": Command("train.data.preparing.command", "tokenize a recipe's text once"),
    "dry-run": Command("train.planning.command", "say what a run would be and what would stop it"),
    "sizing": Command("train.planning.sizing", "say which GPUs fit the recipes, and for how long"),
    "report": Command("train.reporting.command", "write a run's report, one HTML file"),
    "export": Command("train.export.command", "write a checkpoint as a Hugging Face folder"),
    "generate": Command("train.export.generate", "write text with a trained model"),
    "convert": Command(
        "train.checkpoint.convert_command", "make a checkpoint load at any world size"
    ),
    "sweep": Command("train.experiments.sweeps.command", "run a grid of experiments"),
    "tables": Command("train.experiments.tables.command", "collate finished runs into tables"),
    "state": Command("train.loop.run_status", "print how a run stands"),
    "where": Command("train.config.output_dir", "print the folder a recipe writes to"),
    "completion": Command("train.config.shtab_completion", "print a shell's completion script"),
    "interface": Command("train.cluster.interfaces", "print the network interface to a host"),
    "preflight": Command("train.cluster.preflight.command", "examine the nodes of a job"),
}


def run_command(name: str, arguments: Sequence[str]) -> int:
    """Run one of COMMANDS and return its exit code."""
    return as_command(lambda: _run(COMMANDS[name].module, list(arguments)))


def _run(module: str, arguments: list[str]) -> int:
    try:
        code: int = import_module(module).main(arguments)
    except ModuleNotFoundError as error:
        raise explained(error) from error
    return code


def overview() -> str:
    """Return the list of commands, as `python -m train --help` prints it."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: python -m train COMMAND [options]; COMMAND --help tells its options.",
            "",
            *lines,
            "",
            "Training itself is started by deepspeed, torchrun or python: train/pretrain.py.",
        ]
    )
