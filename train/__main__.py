"""`python -m train COMMAND ...`, or from any working directory `python CLONE/train COMMAND ...`."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

if not __package__:
    # Started by the folder's path, Python puts that folder first, where our module names would hide
    # other packages' own.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from train.commands import COMMANDS, overview, run_command
from train.errors import EXIT_USER_ERROR
from train.system.streams import print_what_can_be


def main(arguments: list[str]) -> int:
    """Run the command named first and return its exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else EXIT_USER_ERROR
    name = arguments[0]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(COMMANDS)}"
        print(f"error: unknown command {name!r}; {hint}", file=sys.stderr)
        return EXIT_USER_ERROR
    return run_command(name, arguments[1:])


if __name__ == "__main__":
    print_what_can_be(sys.stdout)
    sys.exit(main(sys.argv[1:]))
