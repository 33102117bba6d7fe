"""The command `alphadecay`: what the library says of a model without a line of Python.

A command's own module is imported when it is called.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

import alphadecay
from alphadecay.inspect.commands import COMMANDS
from alphadecay.inspect.errors import InspectError
from alphadecay.inspect.streams import print_what_can_be

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # as a shell reports SIGINT
EXIT_BROKEN_PIPE = 141  # and SIGPIPE
ELSEWHERE = (
    "The pre-training program is no part of this package: it runs from a clone or an image of the "
    "project, as `python -m train COMMAND` in the clone's folder or `python CLONE/train COMMAND` "
    "from anywhere."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 2 for what the user can mend."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["train"]:
        print(f"error: {ELSEWHERE}", file=sys.stderr)
        return EXIT_USER_ERROR
    for stream in (sys.stdout, sys.stderr):
        print_what_can_be(stream)
    options = _parser(given).parse_args(given)
    try:
        status = int(_module(options.command).run(options))
        sys.stdout.flush()  # here, where a closed pipe is told from a fault
        return status
    except InspectError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # nobody reads on, as behind `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    """Return the parser, with the arguments of the command that was given."""
    parser = argparse.ArgumentParser(
        prog="alphadecay",
        description="Weight decay per module from heavy-tailed spectra (arXiv 2506.14562).",
        epilog=ELSEWHERE,
    )
    parser.add_argument("--version", action="version", version=alphadecay.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        one = commands.add_parser(name, help=summary, formatter_class=_Paragraphs)
        if name in given[:1]:
            module = _module(name)
            one.description = module.__doc__
            module.add_arguments(one)
    return parser


class _Paragraphs(argparse.HelpFormatter):
    """Keeps the paragraphs of a description apart."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        blocks = text.strip().split("\n\n")
        return "\n\n".join(super(_Paragraphs, self)._fill_text(b, width, indent) for b in blocks)


def _module(command: str) -> ModuleType:
    return import_module(f"alphadecay.inspect.commands.{command}")


if __name__ == "__main__":
    sys.exit(main())
