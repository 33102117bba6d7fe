"""The command `alphadecay`: what the library says about a weight without a line of Python."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import alphadecay
from alphadecay.spectral import Estimate, Status, estimate, to_estimate

EXIT_USER_ERROR = 2
ELSEWHERE = (
    "The pre-training program is no part of this package: it runs from a clone or an image of the "
    "project, as `python -m train COMMAND` in the clone's folder or `python CLONE/train COMMAND` "
    "from anywhere."
)


class MatrixError(ValueError):
    """A file that holds no matrix with an alpha; the message says what is there and what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 2 for what the user can mend."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["train"]:
        print(f"error: {ELSEWHERE}", file=sys.stderr)
        return EXIT_USER_ERROR
    options = _parser().parse_args(given)
    try:
        print(_estimate(Path(options.file), options.tail, options.json))
    except MatrixError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="alphadecay",
        description="Weight decay per module from heavy-tailed spectra (arXiv 2506.14562).",
        epilog=ELSEWHERE,
    )
    parser.add_argument("--version", action="version", version=alphadecay.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    one = commands.add_parser(
        "estimate",
        help="print alpha of a matrix, the fit's distance and the size of its tail",
        description="Fit a power law to the tail of a weight's spectrum, in float64.",
    )
    one.add_argument("file", metavar="FILE.npy", help="a 2-D array of floats, as numpy.save writes")
    one.add_argument(
        "--tail",
        choices=("hill", "goodness_of_fit", "fix_finger"),
        default="hill",
        help="where the tail begins: at the median (the paper's), at the best fit, near the peak",
    )
    one.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def _estimate(file: Path, tail: str, as_json: bool) -> str:
    weight_MN = load_matrix(file)
    # Float64 at once: on a CPU a single matrix is not worth a second try.
    row = estimate(torch.from_numpy(weight_MN), tail=tail, precision=torch.float64)
    result = to_estimate([float(value) for value in row])
    if result.status is not Status.OK:
        raise MatrixError(f"{file}: no alpha, {result.status.label}: {result.status.advice}")
    return _as_json(file, weight_MN, result) if as_json else _as_text(weight_MN, result)


def _as_text(weight_MN: np.ndarray, result: Estimate) -> str:
    rows, columns = weight_MN.shape
    return "\n".join(
        [
            f"alpha        {result.alpha:.4f}",
            f"KS distance  {result.ks_distance:.4f}",
            f"tail         {result.tail_count} of {min(rows, columns)} eigenvalues",
            f"shape        {rows} x {columns}",
        ]
    )


def _as_json(file: Path, weight_MN: np.ndarray, result: Estimate) -> str:
    return json.dumps(
        {
            "file": str(file),
            "shape": list(weight_MN.shape),
            "alpha": result.alpha,
            "ks_distance": result.ks_distance,
            "tail_count": result.tail_count,
            "x_min": result.x_min,
        }
    )


def load_matrix(file: Path) -> np.ndarray:
    """Return the matrix [M, N] in float64.

    Raises:
        MatrixError: no such file, no array of numpy's, another number of dimensions, no real
            floats, or NaN and Inf in it.
    """
    try:
        array = np.load(file, allow_pickle=False)
    except FileNotFoundError as error:
        raise MatrixError(f"{file}: no such file") from error
    except (OSError, ValueError, EOFError) as error:
        raise MatrixError(
            f"{file}: not an array that numpy can read ({error}); write one with numpy.save"
        ) from error
    if not isinstance(array, np.ndarray):
        raise MatrixError(f"{file}: an archive of several arrays; save one of them with numpy.save")
    if array.ndim != 2:
        raise MatrixError(
            f"{file}: its shape is {array.shape}, need a matrix [rows, columns]; "
            "split or flatten it first"
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise MatrixError(f"{file}: its values are {array.dtype}, need real floats")
    broken = array.size - int(np.isfinite(array).sum())
    if broken:
        raise MatrixError(
            f"{file}: {broken} of {math.prod(array.shape)} values are NaN or Inf; "
            "find the step at which the run diverged"
        )
    return np.asarray(array, dtype=np.float64)


if __name__ == "__main__":
    sys.exit(main())
