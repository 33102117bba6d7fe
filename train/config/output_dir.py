"""The command `python -m train where --config RECIPE [--section.key VALUE ...]`: a run's folder.

For scripts, which need it before the run starts; a mistake in the arguments is told here, with exit
code 2, and costs no allocation.
"""

from __future__ import annotations

from train.config.command_line import load_command
from train.errors import as_command


def main(arguments: list[str]) -> int:
    """Print the folder that train/pretrain.py writes to with the same arguments."""
    return as_command(lambda: print(load_command(arguments, prog="python -m train where").folder))
