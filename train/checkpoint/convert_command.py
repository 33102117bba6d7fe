"""Makes a checkpoint universal: it then loads at any world size, under either engine.

python -m train convert runs/NAME/checkpoints/step-00001000 [--out FOLDER] [--workers 4]

A run converts by itself what it needs (checkpoint.convert auto); this does it ahead of the
allocation.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from train.errors import UserError, as_command
from train.system.cpu_count import cpu_count


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train convert",
        description="Make a checkpoint load at any world size, ZeRO stage and engine.",
    )
    parser.add_argument(
        "checkpoint", type=Path, help="a folder such as runs/NAME/checkpoints/step-00001000"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="the folder to write; default: universal-N beside it, where a run looks for it",
    )
    parser.add_argument(
        "--workers", type=int, default=cpu_count(), help="parameters converted at a time; all cores"
    )
    given = parser.parse_args(arguments)
    os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "error")
    return as_command(lambda: print(_convert(given.checkpoint, given.out, given.workers)))


def _convert(path: Path, out: Path | None, workers: int) -> Path:
    from train import checkpoint
    from train.checkpoint.names import universal_name

    source = checkpoint.find(str(path), path.parent, print)
    assert source is not None  # a path is found or refused
    final = out or source.path.with_name(universal_name(source.step))
    if out is not None and out.exists():
        raise UserError(f"{out} exists; name a folder that does not")
    return checkpoint.convert(source, final, say=print, threads=max(1, workers)).path
