"""The commands of `python -m train`: a name, the module whose `main` it is, and its summary.

The module names that they had in version 0.1, `python -m train.sweep`, still run them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

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
    "prepare": Command("train.tasks.prepare_command", "tokenize a recipe's text once"),
    "dry-run": Command("train.planning.command", "say what a run would be and what would stop it"),
    "sizing": Command("train.planning.sizing", "say which GPUs fit the recipes, and for how long"),
    "report": Command("train.reporting.command", "write a run's report, one HTML file"),
    "export": Command("train.export.command", "write a checkpoint as a Hugging Face folder"),
    "generate": Command("train.export.generate", "write text with a trained model"),
    "evaluate": Command("train.export.evaluate", "score a trained model on lm-eval's tasks"),
    "convert": Command(
        "train.checkpoint.convert_command",
        "make a checkpoint load at any world size, under either engine",
    ),
    "lr-range": Command(
        "train.experiments.lr_range.command", "train over rising learning rates, suggest a peak"
    ),
    "sweep": Command("train.experiments.sweeps.command", "run a grid of experiments"),
    "tables": Command("train.experiments.tables.command", "collate finished runs into tables"),
    "hang": Command("train.loop.hanging.command", "say which rank a run that hung waited for"),
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


# Old module -> today's command.
FORMER = {
    "train.convert": "convert",
    "train.data.prepare": "prepare",
    "train.export": "export",
    "train.generate": "generate",
    "train.interface": "interface",
    "train.preflight": "preflight",
    "train.report": "report",
    "train.state": "state",
    "train.sweep": "sweep",
    "train.tables": "tables",
    "train.where": "where",
}

_SOURCE = """
import sys
from train.commands import run_former

sys.exit(run_former("{old}"))
"""


def run_former(old: str) -> int:
    """Run the command that an old module name stands for, with a line that names the new one."""
    new = FORMER[old]
    print(f"note: python -m {old} is now python -m train {new}", file=sys.stderr)
    return run_command(new, sys.argv[1:])


class FormerNames(MetaPathFinder, InspectLoader):
    """Finds old module names, for `python -m` alone: they hold a command and nothing to import."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a specification for an old name."""
        return ModuleSpec(fullname, self, origin=__file__) if fullname in FORMER else None

    def get_source(self, fullname: str) -> str:
        """Return the program that `python -m` runs under the old name."""
        return _SOURCE.format(old=fullname)

    def exec_module(self, module: ModuleType) -> None:
        """Refuse to be imported."""
        raise ImportError(
            f"{module.__name__} is no module any more; the command is `python -m train "
            f"{FORMER[module.__name__]}`"
        )


def install_former_names() -> None:
    """Have the old names found, after everything that is really there."""
    if not any(isinstance(finder, FormerNames) for finder in sys.meta_path):
        sys.meta_path.append(FormerNames())
