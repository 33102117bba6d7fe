"""Explain how a weight comes by its decay: eigenvalues, tail, alpha, decay.

MODEL is what `alphadecay analyze` reads. The decay depends on the alphas of all
weights, so that all are measured; --journal FILE keeps them, also those that
`alphadecay analyze --journal FILE` measured, and --alone does without.

The exit status is 0, and 2 for what you can mend.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from alphadecay.inspect.commands.analyze import add_choices, choices
from alphadecay.inspect.errors import InspectError

if TYPE_CHECKING:
    from alphadecay.inspect.analysis.rows import Row
    from alphadecay.inspect.analysis.spectrum import Spectrum

_WIDTH = 80  # where there is no terminal


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="what to read")
    parser.add_argument(
        "weight", metavar="WEIGHT", help="its name, a part of it or a shell pattern of it"
    )
    add_choices(parser)
    parser.add_argument("--alone", action="store_true", help="measure this weight and no other")
    parser.add_argument("--journal", metavar="FILE", help="keep what is measured there")
    parser.add_argument("--html", metavar="FILE", help="write a page with the picture")


def run(options: argparse.Namespace) -> int:
    """Print the words and the picture.

    Raises:
        InspectError: the model cannot be read, or no weight is meant.
    """
    from alphadecay.inspect.analysis.chosen import find_one, measure_one
    from alphadecay.inspect.analysis.picture import draw_tail
    from alphadecay.inspect.analysis.progress import Bar
    from alphadecay.inspect.analysis.words import explain_decay, explain_tail
    from alphadecay.inspect.analyze import analyze
    from alphadecay.inspect.terminal import paragraph, width

    chosen = choices(options)
    weight = find_one(options.model, options.weight, chosen)
    name = weight.name
    with Bar(kept=name) as bar:
        taken = {**chosen, "include": [name.partition("[")[0]]} if options.alone else chosen
        analysis = analyze(options.model, **taken, journal=options.journal, watcher=bar)
    if name in analysis.set_aside:
        raise InspectError(f"{name} has no spectrum: {analysis.set_aside[name]}")
    row = analysis[name]
    spectrum = bar.spectrum or measure_one(weight, chosen)
    words = list(explain_tail(row, spectrum, options.tail))
    if not options.alone:
        words.append(explain_decay(row, analysis.rows, dict(analysis.settings)))
    columns = width() or _WIDTH
    picture = draw_tail(spectrum.eigenvalues, spectrum.estimate, columns)
    title = f"{name}, {row.shape[0]} x {row.shape[1]}, of {analysis.model}"
    print("\n\n".join(paragraph(one, columns) for one in (title, *words)))
    if picture:
        print(f"\nShare of eigenvalues at least so large: o data, + power law, | x_min\n{picture}")
    if options.html:
        _write_page(options.html, title, words, row, spectrum)
    return 0


def _write_page(file: str, title: str, words: list[str], row: Row, spectrum: Spectrum) -> None:
    from alphadecay.inspect.html.write import require_plotly

    require_plotly()
    from alphadecay.inspect.analysis.page import render_weight
    from alphadecay.inspect.writing import write

    write(file, render_weight(title, words, row, spectrum))
