"""Which way of solving Grams is fastest on this device: measured once for each shape, and kept.

A GPU's eigensolvers differ more than one would guess: on an H200, float32 at side 512 takes three
times as long as float64, and four threads a quarter of one. So a device is measured, about a second
in all, instead of believed. The result is kept in the process and in a file of the user's cache
folder, by the device's name, torch's version and the shape.

What it changes: time, and the last digits of α, as float32 and float64 round differently (within
1e-5 of each other where float32 is taken at its word). CPUs are not measured: they always solve one
by one, in float32 first.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch

from alphadecay.spectral import EstimateRow, Gram, estimate_from_gram, take_gram
from alphadecay.spectral.solving import SOLVERS, TOGETHER, Solver, Way

Shape = tuple[int, int]
Clock = Callable[[], float]

# float64 may take this much longer: it spares a second look at what float32 does not resolve
FLOAT64_WORTH = 1.2
# and another solver must save this much to be taken instead of one by one
SOLVER_WORTH = 0.9
# of a Gram: a larger one fills a GPU by itself, and several its memory
LARGEST_SIDE = 4096
FILE = "eigensolvers.json"
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}

_LOG = logging.getLogger("alphadecay")
_known: dict[str, dict[str, Way]] = {}


def fastest_way(
    shape: Shape,
    device: torch.device,
    clock: Clock,
    solvers: Mapping[str, Solver] = SOLVERS,
) -> Way:
    """Time the solvers on random matrices of a shape.

    The precision comes first, on single matrices, then the solver in that precision. A solver that
    fails, for memory as an example, is not taken.

    Args:
        clock: seconds, once the device has done what was asked of it.
        solvers: name -> solver; "one_by_one" among them.
    """
    generator = torch.Generator().manual_seed(0)
    weight_MN = torch.randn(shape, generator=generator).to(device)

    def seconds(count: int, precision: torch.dtype, name: str) -> float:
        started = clock()
        try:
            grams = [take_gram(weight_MN, precision) for _ in range(count)]
            solvers[name](grams, _solve)
        except RuntimeError:
            return math.inf
        return clock() - started

    def best_of_two(precision: torch.dtype) -> float:
        seconds(1, precision, "one_by_one")  # the first call sets libraries up
        return min(seconds(1, precision, "one_by_one") for _ in range(2))

    single = {precision: best_of_two(precision) for precision in PRECISIONS.values()}
    cheap = single[torch.float64] <= FLOAT64_WORTH * single[torch.float32]
    works = math.isfinite(single[torch.float64])
    precision = torch.float64 if cheap and works else torch.float32
    if min(shape) > LARGEST_SIDE:
        return Way(precision)
    together = {name: seconds(TOGETHER, precision, name) for name in solvers}
    best = min(together, key=together.__getitem__)
    worth = together[best] < SOLVER_WORTH * together["one_by_one"]
    return Way(precision, best if worth else "one_by_one")


def _solve(gram: Gram) -> EstimateRow:
    return estimate_from_gram(gram)


def known_ways(
    shapes: Iterable[Shape],
    device: torch.device,
    *,
    name: str | None = None,
    clock: Clock | None = None,
    solvers: Mapping[str, Solver] = SOLVERS,
) -> dict[Shape, Way]:
    """Return the way of each shape on a device: known to this process, read from the file, or
    measured now and written there.

    Args:
        name: what the device is filed under; by default its own and torch's version.
        clock: see `fastest_way`; by default the device's.
    """
    name = name or device_name(device)
    clock = clock or device_clock(device)
    wanted = {shape: f"{shape[0]}x{shape[1]}" for shape in shapes}
    known = _known.setdefault(name, {})
    if not set(wanted.values()) <= set(known):
        known.update(read_ways(cache_file(), name) | known)
    measured = {
        label: fastest_way(shape, device, clock, solvers)
        for shape, label in wanted.items()
        if label not in known
    }
    if measured:
        said = "; ".join(
            f"{label} {way.solver}, {way.precision}" for label, way in measured.items()
        )
        _LOG.info("AlphaDecay: eigensolvers measured on %s: %s", name, said)
        known.update(measured)
        write_ways(cache_file(), name, known)
    return {shape: known[label] for shape, label in wanted.items()}


def device_name(device: torch.device) -> str:
    """Return what tells apart devices whose solvers differ: the model, torch, and its CUDA."""
    cuda = torch.version.cuda or torch.version.hip
    return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}, {cuda}"


def device_clock(device: torch.device) -> Clock:
    """Return a clock that waits for the device."""

    def clock() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return clock


def cache_file() -> Path:
    """Return where ways are kept: in $XDG_CACHE_HOME, or ~/.cache."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(folder) / "alphadecay" / FILE


def read_ways(file: Path, name: str) -> dict[str, Way]:
    """Return the ways that a file has for a device, by shape; none where it cannot be read or
    says what this version does not know.
    """
    try:
        entries = json.loads(file.read_text())[name]
        return {
            label: Way(PRECISIONS[entry["precision"]], entry["solver"])
            for label, entry in entries.items()
            if entry["solver"] in SOLVERS
        }
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}


def write_ways(file: Path, name: str, ways: Mapping[str, Way]) -> None:
    """Write the ways of a device beside those of others, by rename; where the folder cannot be
    written, they are measured again by the next process.
    """
    names = {precision: name for name, precision in PRECISIONS.items()}
    entries = {
        label: {"precision": names[way.precision], "solver": way.solver}
        for label, way in sorted(ways.items())
    }
    if not file.is_absolute():  # no home: nowhere to keep it
        return
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({**_others(file), name: entries}, indent=1) + "\n"
        with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as temporary:
            temporary.write(text)
        os.replace(temporary.name, file)


def _others(file: Path) -> dict[str, object]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
