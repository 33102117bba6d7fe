"""Holds what the benches share: the command line, the machine, the order of turns, the spread."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
# The environment of the ranks.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "DEEPSPEED_LOG_LEVEL": "error", "DS_ACCELERATOR": "cpu"}


def new_parser(doc: str | None, repeats: int, judged: str = "") -> argparse.ArgumentParser:
    """Make a parser with --repeats, --check and --out.

    Args:
        judged: where the targets hold, if not everywhere.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--repeats", type=int, default=repeats, help=f"interleaved repeats (default {repeats})"
    )
    parser.add_argument(
        "--check", action="store_true", help=f"exit with 1 where a target is missed{judged}"
    )
    parser.add_argument("--out", type=Path, help="write the figures as JSON to this file")
    return parser


def add_grid(
    parser: argparse.ArgumentParser, sizes: Sequence[str], chosen: Sequence[str], stages: list[int]
) -> None:
    """Add --size, --stages and --ranks, of models that are trained under ZeRO.

    Args:
        sizes: that there are.
        chosen: those timed by default.
        stages: likewise.
    """
    parser.add_argument(
        "--size",
        choices=list(sizes),
        nargs="+",
        default=list(chosen),
        help=f"models to time (default {' '.join(chosen)})",
    )
    parser.add_argument(
        "--stages",
        type=int,
        nargs="+",
        default=stages,
        choices=[0, 1, 2, 3],
        help=f"ZeRO stages (default {' '.join(map(str, stages))})",
    )
    parser.add_argument("--ranks", type=int, default=2, help="gloo ranks (default 2)")


def run_grid(
    options: argparse.Namespace,
    sizes: Mapping[str, Any],
    bench: Callable[[str, int], dict[str, Any]],
    report: Callable[[dict[str, Any], float], bool],
    note: str = "",
) -> tuple[dict[str, Any], list[bool]]:
    """Time the sizes and stages that `add_grid` read; return the figures and the targets met.

    Args:
        sizes: with rows, length and target.
        bench: of a size and a stage.
        report: prints figures, and says whether they meet the target.
        note: on the tokens.
    """
    found: dict[str, Any] = {}
    met = []
    for name in options.size:
        size = sizes[name]
        stages = []
        print(f"{name}: {size.rows} x {size.length} tokens a rank", flush=True)
        for stage in options.stages:
            stages.append(bench(name, stage))
            met.append(report(stages[-1], size.target))
        tokens = f"{size.rows} x {size.length} a rank and step{note}"
        found[name] = {"tokens": tokens, "target": size.target, "stages": stages}
    return found, met


def about(doc: str | None, options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return what results say of themselves: the bench, the machine, and options by name."""
    given = {name: getattr(options, name) for name in names}
    return {"what": " ".join(str(doc).split()), "machine": machine(), **given}


def machine() -> dict[str, Any]:
    """Describe the machine that ran this, and which commit it was."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.strip()

    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "threads_per_rank": 1,
        "backend": "gloo",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "deepspeed": version("deepspeed"),
        "commit": git("rev-parse", "HEAD"),
        "library_changed_since": bool(git("status", "--porcelain", "alphadecay")),
    }


def rotated(names: tuple[str, ...], by: int) -> tuple[str, ...]:
    """Rotate the arms so that over many repeats each follows each other equally often."""
    by %= len(names)
    turned = names[by:] + names[:by]
    return turned if (by // 2) % 2 == 0 else turned[::-1]


def spread(values: list[float]) -> dict[str, float]:
    """Return median and quartiles."""
    if len(values) == 1:
        return dict.fromkeys(("median", "q1", "q3"), values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": middle, "q1": low, "q3": high}


def finish(options: argparse.Namespace, results: dict[str, Any], met: Sequence[bool]) -> int:
    """Write the figures; return the exit status, which is 1 only with --check."""
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n")
    return int(options.check and not all(met))
