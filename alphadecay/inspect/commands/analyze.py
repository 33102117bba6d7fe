"""Measure every weight of a model, and say which decay AlphaDecay would give it.

MODEL is a Hugging Face folder, a safetensors file or the index of several, a
file of torch.save (.pt, .pth, .bin), a run or a checkpoint of the pre-training
program, or a folder of DeepSpeed's or of torch.distributed.checkpoint's. A few
matrices are in memory at a time; nothing of a file is executed.

The exit status is 0 where every weight was measured, 1 where something was set
aside (broken, not finite, quantised, unreadable) and 2 for what you can mend.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphadecay.inspect.errors import InspectError

if TYPE_CHECKING:
    from alphadecay.inspect.analysis.rows import Analysis

EXIT_SET_ASIDE = 1
JOURNAL = ".journal"  # behind the name of the file of --json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", metavar="MODEL", help="what to read")
    add_choices(parser)
    parser.add_argument(
        "--randomize", action="store_true", help="compare each weight with its own shuffled copy"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the shuffles (0)")
    parser.add_argument(
        "--journal",
        metavar="FILE",
        help="keep what is measured there, and go on from it; with --json FILE it is "
        f"FILE{JOURNAL} until all is done",
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        nargs="?",
        const="-",
        help="write all of it as JSON, to the screen without FILE",
    )
    parser.add_argument(
        "--csv", metavar="FILE", nargs="?", const="-", help="write the rows as CSV, as --json does"
    )
    parser.add_argument("--html", metavar="FILE", help="write a page: maps, spectra and the table")


def add_choices(parser: argparse.ArgumentParser) -> None:
    """Add the choices of what is measured, and how."""
    parser.add_argument(
        "--tail",
        choices=("hill", "goodness_of_fit", "fix_finger"),
        default="hill",
        help="where the tail begins: at the median (the paper's), at the best fit, near the peak",
    )
    parser.add_argument("--weight-decay", type=float, default=0.1, help="the base decay (0.1)")
    parser.add_argument("--s1", type=float, default=0.67, help="of the smallest alpha (0.67)")
    parser.add_argument("--s2", type=float, default=5.0, help="of the largest alpha (5)")
    parser.add_argument(
        "--assign", choices=("linear", "sqrt", "log2"), default="linear", help="alpha to decay"
    )
    for name, words in (("include", "to take instead of every linear weight"), ("exclude", "out")):
        parser.add_argument(
            f"--{name}",
            metavar="PATTERN",
            action="append",
            default=[],
            help=f"shell pattern of weights {'to leave ' if name == 'exclude' else ''}{words}; "
            "may be given again",
        )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")


def run(options: argparse.Namespace) -> int:
    """Analyse the model and write what was asked for.

    Raises:
        InspectError: the model cannot be read, a file cannot be written, or two go to one place.
    """
    if options.json == options.csv == "-":
        raise InspectError("--json and --csv both go to the screen; give one of them a FILE")
    from alphadecay.inspect.analysis.progress import Bar
    from alphadecay.inspect.analysis.text import as_text
    from alphadecay.inspect.analyze import analyze
    from alphadecay.inspect.terminal import width
    from alphadecay.inspect.writing import write

    beside = options.json if options.json not in (None, "-") else None
    journal = options.journal or (f"{beside}{JOURNAL}" if beside else None)
    with Bar() as bar:
        analysis = analyze(
            options.model,
            **choices(options),
            randomize=options.randomize,
            seed=options.seed,
            journal=journal,
            watcher=bar,
        )
    if options.json:
        write(options.json, json.dumps(analysis.as_dict(), indent=2, allow_nan=False) + "\n")
    if options.csv:
        write(options.csv, analysis.to_csv())
    if options.html:
        _write_page(options, analysis)
    if "-" not in (options.json, options.csv):
        print(as_text(analysis, width()))
    elif analysis.set_aside:
        print(f"{len(analysis.set_aside)} set aside", file=sys.stderr)
    if journal and not options.journal:
        Path(journal).unlink(missing_ok=True)
    return EXIT_SET_ASIDE if analysis.set_aside else 0


def _write_page(options: argparse.Namespace, analysis: Analysis) -> None:
    """Write the page; the spectra that it draws are taken for it, of three weights."""
    from alphadecay.inspect.html.write import require_plotly

    require_plotly()
    from alphadecay.inspect.analysis import page
    from alphadecay.inspect.analysis.chosen import extremes, spectra_of
    from alphadecay.inspect.models import find_weights
    from alphadecay.inspect.sources import open_source
    from alphadecay.inspect.writing import write

    weights = find_weights(open_source(options.model), options.include, options.exclude)
    names = extremes(analysis.rows)
    spectra = spectra_of(weights.measured, names, options.tail, options.device)
    write(options.html, page.render(analysis, {n: spectra[n] for n in names if n in spectra}))


def choices(options: argparse.Namespace) -> dict[str, Any]:
    """Return what `add_choices` was given, as `analyze` takes it."""
    return {
        "tail": options.tail,
        "weight_decay": options.weight_decay,
        "s1": options.s1,
        "s2": options.s2,
        "assign": options.assign,
        "include": options.include,
        "exclude": options.exclude,
        "device": options.device,
    }
