"""Keeps the commands of version 0.1 working under their old names, `python -m train.sweep`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

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
from train.former_names import run_former

sys.exit(run_former("{old}"))
"""


def run_former(old: str) -> int:
    """Run the command that an old module name stands for, with a line that names the new one."""
    from train.commands import run_command

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


def install() -> None:
    """Have the old names found, after everything that is really there."""
    if not any(isinstance(finder, FormerNames) for finder in sys.meta_path):
        sys.meta_path.append(FormerNames())
