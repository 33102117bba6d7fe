"""Runs a grid of experiments: `python -m train sweep GRID [--launcher local|slurm]`; `--list` shows
what there is and how it stands.

Runs what is missing and goes on with what was cut, in one folder a run: ROOT/GRID/CELL/seed-N. A
run that failed is told and left until --retry-failed. Exit code: 0 all is finished (or submitted),
75 the same command goes on, 1 some runs failed, 2 a mistake in the command.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from train.config.tokenizer_name import PREFIX
from train.errors import UserError, as_command
from train.experiments.arguments import add_choice, cut_overrides, overrides_of, whole
from train.experiments.grids.registry import Grid, load_grid, shipped
from train.experiments.grids.resolved_run import Planned, plan
from train.experiments.sweeps import slurm
from train.experiments.sweeps.listing import MFU, Speed, list_grids, list_runs
from train.experiments.sweeps.local import LocalSweep, command_line
from train.experiments.sweeps.run_standing import (
    Standing,
    acquire_lock,
    count,
    refuse_mixtures,
    standing,
)
from train.system.provenance import ROOT

EPILOG = """Overrides of every run come last, after `--`: python -m train sweep adam --only '60M*' -- --run.micro_batch 64. A folder keeps
the settings that its run was begun with: other ones need another --root."""


def sweep(o: argparse.Namespace, extra: Mapping[str, str]) -> int:
    """What the command line asks for; the exit code.

    Args:
        o: the parsed options.
        extra: overrides of every run.

    Raises:
        UserError: what a user can mend.
    """
    if not o.grid and (o.only or not o.list):
        raise UserError(
            f"name a grid, ahead of the options: {', '.join(shipped())}, or a file of your own; "
            "--list tells more"
        )
    if not o.grid:
        return _list_all(o, extra)
    grid = load_grid(o.grid).narrowed(o.only, o.seeds)
    root = o.root.resolve() if o.launcher == "slurm" else o.root
    runs = [plan(run, extra) for run in grid.runs(root)]
    if o.list:
        print(*list_runs(grid, runs, _speed(o), cache(slurm.queue)), sep="\n")
        return 0
    refuse_mixtures(runs)
    return _submit(o, grid, runs, root) if o.launcher == "slurm" else _run_here(o, grid, runs)


def _list_all(o: argparse.Namespace, extra: Mapping[str, str]) -> int:
    grids = [load_grid(name).narrowed(seeds=o.seeds) for name in shipped()]
    print(
        *list_grids(
            [(grid, [plan(run, extra) for run in grid.runs(o.root)]) for grid in grids], _speed(o)
        ),
        sep="\n",
    )
    return 0


def _run_here(o: argparse.Namespace, grid: Grid, runs: Sequence[Planned]) -> int:
    todo = _to_do(o, _standings(o, grid, runs))
    _check(todo)
    local = LocalSweep(runs, o.ranks or 1, o.jobs or 1, o.retry_failed, slurm.queue, _say)
    if o.dry_run:
        for planned in todo:
            print(shlex.join(command_line(planned, o.ranks or 1)))
        return 0
    code = local.run()
    ended = {
        p.run.label: local.outcomes.get(p.run.label) or standing(p.run.folder, slurm.queue)
        for p in runs
    }
    _say(count(ended.values()))
    for state in ("failed", "stopped"):
        names = [label for label, outcome in ended.items() if outcome.state == state]
        if names:
            _say(f"{state}: {', '.join(names)}")
    return code


def _submit(o: argparse.Namespace, grid: Grid, runs: Sequence[Planned], root: Path) -> int:
    if Path.cwd() != ROOT:  # the job script takes the folder it is submitted from for the project
        raise UserError(f"submit from the project's folder: cd {ROOT}")
    folder = root / grid.name
    lock = acquire_lock(folder)
    if lock is None:
        raise UserError(f"another sweep is submitting runs of {folder}; wait for it")
    with lock:
        stand = _standings(o, grid, runs)
        for planned, now in stand:
            if now.state == "failed" and not o.retry_failed:
                _say(f"{planned.run.label}: failed ({now.reason}); --retry-failed submits it again")
        todo = _to_do(o, stand)
        _check(todo)
        if o.dry_run:
            print(
                shlex.join(slurm.command_line(len(todo), o.jobs, o.sbatch, grid.name)),
                *map(slurm.line, todo),
                sep="\n",
            )
        elif todo:
            slurm.submit(todo, folder, grid.name, o.jobs, o.ranks, o.sbatch, _say)
        else:
            _say("nothing to submit")
    return 1 if any(now.state == "failed" for _, now in stand) and not o.retry_failed else 0


def _standings(
    o: argparse.Namespace, grid: Grid, runs: Sequence[Planned]
) -> list[tuple[Planned, Standing]]:
    """How they stand, told in a line."""
    queue = cache(slurm.queue)
    stand = [(planned, standing(planned.run.folder, queue)) for planned in runs]
    if not o.dry_run:
        _say(f"{grid.name} in {o.root / grid.name}: {count(now for _, now in stand)}")
    return stand


def _to_do(o: argparse.Namespace, stand: Sequence[tuple[Planned, Standing]]) -> list[Planned]:
    wanted = ("missing", "stopped", *(["failed"] if o.retry_failed else []))
    return [planned for planned, now in stand if now.state in wanted]


def _check(runs: Sequence[Planned]) -> None:
    """What would stop every run alike is told once, before the first."""
    from train.data.tokenizers.sentencepiece import load_sentencepiece
    from train.loop.decay_methods import check_method  # with torch, which --list need not wait for

    for planned in runs:
        try:
            check_method(planned.config)
        except UserError as error:
            raise UserError(f"{planned.run.label}: {error}") from error
    for tokenizer in {planned.config.data.tokenizer for planned in runs}:
        if tokenizer and not tokenizer.startswith(PREFIX):
            try:
                load_sentencepiece(tokenizer)
            except UserError as error:
                raise UserError(
                    f"{error} For all runs of a sweep: -- --data.tokenizer FILE.model"
                ) from error


def _speed(o: argparse.Namespace) -> Speed:
    return Speed(mfu=o.mfu) if o.gpu_tflops is None else Speed(o.gpu_tflops, o.mfu, "as given")


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


# --- the command line
# -------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train sweep", description="Run a grid of experiments.", epilog=EPILOG
    )
    parser.add_argument(
        "grid",
        nargs="?",
        metavar="GRID",
        help="a shipped grid's name, or FILE.yaml of your own (train/experiments/grids/grid_yaml.py)",
    )
    parser.add_argument(
        "--list",
        action="store_true",
        help="show the grids, or the runs of GRID: what they cost, and how they stand",
    )
    parser.add_argument(
        "--launcher",
        choices=("local", "slurm"),
        default="local",
        help="run here (default), or submit a job array",
    )
    add_choice(parser)
    parser.add_argument(
        "--ranks", type=whole(1), metavar="R", help="processes of a run; of SLURM, on a node"
    )
    parser.add_argument(
        "--jobs",
        type=whole(1),
        metavar="N",
        help="runs at a time; default 1 here, as SLURM has it there",
    )
    parser.add_argument(
        "--sbatch",
        type=Path,
        default=slurm.SCRIPT,
        metavar="FILE",
        help="your copy of launch/slurm/torchrun.sbatch",
    )
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="start runs again that failed in an earlier sweep",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the commands and start nothing"
    )
    parser.add_argument(
        "--gpu-tflops",
        type=positive,
        metavar="T",
        help="peak of a GPU for the estimate; default an H100's",
    )
    parser.add_argument(
        "--mfu",
        type=positive,
        default=MFU,
        metavar="SHARE",
        help=f"of that peak, reached in training; default {MFU}",
    )
    return parser


def positive(text: str) -> float:
    """Reads an option that is a number above 0; argparse tells of another by this name."""
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code; a user's mistake is one message, not a traceback."""
    options, words = cut_overrides(sys.argv[1:] if argv is None else argv)
    o = _parser().parse_args(options)
    o.sbatch = o.sbatch.resolve()
    return as_command(lambda: sweep(o, overrides_of(words)))
