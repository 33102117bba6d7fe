"""Say what changed between two checkpoints, or between a base and its fine-tune.

A and B are what `alphadecay analyze` reads. Weights are matched by name, and
sorted by how much alpha changed; what only one of them has is named.

The exit status is 0 where every weight was compared, 1 where something was set
aside (broken, not finite, quantised, of another shape) and 2 for what you can
mend.
"""

from __future__ import annotations

import argparse
import json

from alphadecay.inspect.commands.analyze import EXIT_SET_ASIDE, add_choices, choices


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("first", metavar="A", help="the earlier one, or the base")
    parser.add_argument("second", metavar="B", help="the later one, or the fine-tune")
    add_choices(parser)
    parser.add_argument(
        "--journal", metavar="FILE", help="keep what is measured there, and go on from it"
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        nargs="?",
        const="-",
        help="write all of it as JSON, to the screen without FILE",
    )
    parser.add_argument("--html", metavar="FILE", help="write a page: a picture and the table")


def run(options: argparse.Namespace) -> int:
    """Compare the models and write what was asked for.

    Raises:
        InspectError: a model cannot be read, or a file cannot be written.
    """
    from alphadecay.inspect.analysis.difference_text import as_text
    from alphadecay.inspect.analysis.progress import Bar
    from alphadecay.inspect.diff import diff
    from alphadecay.inspect.terminal import width
    from alphadecay.inspect.writing import write

    with Bar() as bar:
        difference = diff(
            options.first,
            options.second,
            **choices(options),
            journal=options.journal,
            watcher=bar,
        )
    if options.json:
        write(options.json, json.dumps(difference.as_dict(), indent=2, allow_nan=False) + "\n")
    if options.html:
        from alphadecay.inspect.html.write import require_plotly

        require_plotly()
        from alphadecay.inspect.analysis.difference_page import render

        write(options.html, render(difference))
    if options.json != "-":
        print(as_text(difference, width()))
    return EXIT_SET_ASIDE if difference.set_aside or difference.reshaped else 0
