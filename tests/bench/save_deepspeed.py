"""Times DeepSpeed's own checkpoint writers beside this program's, and kills those that are apart.

Two gloo ranks train at the 60M shapes under ZeRO-2 and ZeRO-3, with a batch of little text. Saves
of all kinds take turns in one process, each after a sync of the disk:

  torch                DeepSpeed's plain writer: the training waits for torch.save;
  python, fast         the types of `checkpoint.writer`: by a file of Python's, and past the page
                       cache by the op async_io;
  python_decoupled,
  fast_decoupled       the same by a process beside each rank: a save returns once the tensors are
                       handed over, and the next optimizer step waits for the commit;
  plain, asynchronous  this program's, as in save.py, all their waits in `save_seconds`; they hash
                       and sync their files.

`save_seconds` is the wait for the save. `commit_seconds` is the later wait of a decoupled writer,
after the one forward and backward pass (`pass_seconds`) that it has to write in. `stall` is both
over torch's of the same turn. Each is the slowest rank's. `loads` says what DeepSpeed makes of a
checkpoint, with the same writer and with torch's. At last each decoupled writer is killed -9 on
every rank in the middle of a checkpoint: `killed` says what came of that, of a later save, and
what share of the files' bytes lies under their final names on rank 0.

The fast writer needs libaio, and is left out without. It needs an op `utils` too, which DeepSpeed
has for GPUs only; its source asks for no more than a compiler, so it is built here.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import sys
import tempfile
import warnings
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import torch.distributed as dist

from tests.bench.common import about, finish, new_parser, rotated, spread
from tests.bench.save import KINDS, LENGTH, SIZES
from tests.bench.save_writers import PLAIN, WRITERS, WritersLoop, build_ops, runnable
from tests.distributed.harness import init_deepspeed, run_ranks
from train.cluster.distributed import World
from train.config.command_line import load_config
from train.models.build import count_parameters
from train.planning.kept_memory import keep_memory_where_ample

RANKS = 2
LAUNCHER = {"CROSS_RANK": "0", "CROSS_SIZE": "1"}  # what DeepSpeed's says of one node
PINNING = {"DS_PIN_MEMORY_BACKEND": "native"}  # torch pins no memory without a GPU
HOURS = 1  # until the ranks are given up


def bench_rank(
    rank: int, size: str, stage: int, names: tuple[str, ...], repeats: int, folder: str
) -> dict[str, Any]:
    """Return the waits by kind, and what DeepSpeed makes of its checkpoints."""
    warnings.filterwarnings("ignore")
    os.environ.update(LAUNCHER | PINNING)
    init_deepspeed()
    world = World(rank, rank, RANKS, torch.device("cpu"), dist.new_group(backend="gloo"))
    arguments = [
        *SIZES[size],
        "--engine.kind=deepspeed",
        f"--deepspeed.config=ds_configs/zero{stage}.json",
        "--run.precision=float32",
        f"--run.global_batch={RANKS}",
        "--run.micro_batch=1",
        f"--data.sequence_length={LENGTH}",
        "--model.activation_checkpointing=false",
    ]
    kinds = (*names, *KINDS)
    waits: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    with contextlib.redirect_stdout(sys.stderr):
        loop = WritersLoop(load_config(arguments), world, Path(folder), names)
        with contextlib.closing(loop):
            # as the program does
            keep_memory_where_ample(count_parameters(loop.engine.module), world)
            gc.disable()
            for repeat in range(-1, repeats):  # the first makes moments, processes and memory
                for kind in rotated(kinds, repeat):
                    loop.step()
                    loop.sync()
                    wait = loop.save_by(kind) if kind in WRITERS else (loop.save(kind), 0.0)
                    waits[kind] += [wait] if repeat >= 0 else []
                gc.collect()
            gc.enable()
            loads = {name: loop.load(name) for name in names}
            killed = {
                name: loop.kill(name) for name in names if WRITERS[name].get("decoupled", False)
            }
    return {"waits": waits, "passes": loop.passes, "loads": loads, "killed": killed}


def chosen(options: argparse.Namespace) -> tuple[str, ...]:
    """Return the writers to time, all that can run if none was named, with their ops built."""
    wanted = options.writers or runnable()
    if any("fast" in name for name in wanted):
        build_ops()
    return tuple(name for name in WRITERS if name == PLAIN or name in wanted)


def bench(stage: int, names: tuple[str, ...], options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of the writers under a ZeRO stage."""
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        arguments = (options.size, stage, names, options.repeats, folder)
        (own, *_) = run_ranks(RANKS, bench_rank, *arguments, deadline=3600 * HOURS)
    plain = [sum(wait) for wait in own["waits"][PLAIN]]
    rows = {}
    for kind, waits in own["waits"].items():
        saves, commits = zip(*waits, strict=True)
        stalls = [sum(wait) / base for wait, base in zip(waits, plain, strict=True)]
        rows[kind] = {
            "save_seconds": spread(list(saves)),
            "commit_seconds": spread(list(commits)),
            "stall": spread(stalls),
        }
        if kind in own["loads"]:
            rows[kind]["loads"] = own["loads"][kind]
    return {
        "stage": stage,
        "pass_seconds": median(own["passes"]),
        "writers": rows,
        "killed": own["killed"],
    }


def report(found: dict[str, Any]) -> None:
    """Print the figures."""
    print(f"ZeRO-{found['stage']}: a pass takes {found['pass_seconds']:.2f} s")
    for kind, row in found["writers"].items():
        print(
            f"  {kind:<17} save {row['save_seconds']['median']:.3f} s  commit "
            f"{row['commit_seconds']['median']:.3f} s  stall {row['stall']['median']:.3f} of "
            f"{PLAIN}'s ({row['stall']['q1']:.3f} to {row['stall']['q3']:.3f})  "
            f"loads: {row.get('loads', '')}",
            flush=True,
        )
    for name, killed in found["killed"].items():
        print(f"  {name} killed: {killed}", flush=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = new_parser(__doc__, 6)
    parser.add_argument("--size", choices=list(SIZES), default="60m")
    parser.add_argument("--stages", type=int, nargs="+", choices=(1, 2, 3), default=[2, 3])
    parser.add_argument("--writers", nargs="+", choices=list(WRITERS))
    parser.add_argument("--folder", type=Path, help="where checkpoints go (default: a temporary)")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run and print; there are no targets."""
    options = parse(arguments)
    names = chosen(options)
    results = about(__doc__, options, "repeats", "size")
    results["stages"] = []
    for stage in options.stages:
        results["stages"].append(bench(stage, names, options))
        report(results["stages"][-1])
    return finish(options, results, [])


if __name__ == "__main__":
    sys.exit(main())
