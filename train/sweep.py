"""Runs a grid of experiments: `python -m train.sweep GRID [--launcher local|slurm]`; `--list` shows what there is and how it stands.

Runs what is missing and goes on with what was cut, in one folder a run: ROOT/GRID/CELL/seed-N. A run that failed is told and left until
--retry-failed. Exit code: 0 all is finished (or submitted), 75 the same command goes on, 1 some runs failed, 2 a mistake in the command.
"""

from __future__ import annotations

import argparse
import math
import re
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from train.errors import UserError, as_command
from train.grids import slurm
from train.grids.grid import Grid, load_grid, shipped
from train.grids.local import LocalSweep, command_line
from train.grids.overrides import cut_overrides, overrides_of
from train.grids.planned import Planned, plan
from train.grids.standing import Standing, count, hold, refuse_mixtures, standing

EPILOG = """Overrides of every run come last, after `--`: python -m train.sweep adam --only '60M*' -- --run.micro_batch 64. A folder keeps
the settings that its run was begun with: other ones need another --root."""


def sweep(o: argparse.Namespace, extra: Mapping[str, str]) -> int:
    """What the command line asks for; the exit code.

    Args:
        o: the parsed options.
        extra: overrides of every run.

    Raises:
        UserError: what a user can mend.
    """
    if not o.grid and not o.list:
        raise UserError(f"name a grid: {', '.join(shipped())}, or a file of your own; --list tells more")
    if not o.grid:
        return _list_all(o, extra)
    grid = load_grid(o.grid).narrowed(o.only, o.seeds)
    root = o.root.resolve() if o.launcher == "slurm" else o.root
    runs = [plan(run, extra) for run in grid.runs(root)]
    if o.list:
        from train.grids.listing import list_runs  # not above: it needs torch

        print(*list_runs(grid, runs, _speed(o), cache(slurm.queue)), sep="\n")
        return 0
    refuse_mixtures(runs)
    return _submit(o, grid, runs, root) if o.launcher == "slurm" else _run_here(o, grid, runs)


def _list_all(o: argparse.Namespace, extra: Mapping[str, str]) -> int:
    from train.grids.listing import list_grids

    grids = [load_grid(name) for name in shipped()]
    print(*list_grids([(grid, [plan(run, extra) for run in grid.runs(o.root)]) for grid in grids], _speed(o)), sep="\n")
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
    ended = Counter(outcome.state for outcome in local.outcomes.values()) + Counter(missing=len(runs) - len(local.outcomes))
    _say(count(ended))
    for state in ("failed", "stopped"):
        names = [label for label, outcome in local.outcomes.items() if outcome.state == state]
        if names:
            _say(f"{state}: {', '.join(names)}")
    return code


def _submit(o: argparse.Namespace, grid: Grid, runs: Sequence[Planned], root: Path) -> int:
    if Path.cwd() != slurm.PROJECT:
        raise UserError(f"submit from the project's folder: cd {slurm.PROJECT}")
    folder = root / grid.name
    lock = hold(folder)
    if lock is None:
        raise UserError(f"another sweep is submitting runs of {folder}; wait for it")
    with lock:
        stand = _standings(o, grid, runs)
        for planned, now in stand:
            if now.state == "failed" and not o.retry_failed:
                _say(f"{planned.label}: failed ({now.reason}); --retry-failed submits it again")
        todo = _to_do(o, stand)
        _check(todo)
        if o.dry_run:
            print(shlex.join(slurm.command_line(len(todo), o.jobs, o.sbatch, grid.name)), *map(slurm.line, todo), sep="\n")
        elif todo:
            slurm.submit(todo, folder, grid.name, o.jobs, o.ranks, o.sbatch, _say)
        else:
            _say("nothing to submit")
    return 1 if any(now.state == "failed" for _, now in stand) and not o.retry_failed else 0


def _standings(o: argparse.Namespace, grid: Grid, runs: Sequence[Planned]) -> list[tuple[Planned, Standing]]:
    """How they stand, told in a line."""
    queue = cache(slurm.queue)
    stand = [(planned, standing(planned.run.folder, queue)) for planned in runs]
    if not o.dry_run:
        _say(f"{grid.name} in {o.root / grid.name}: {count(Counter(now.state for _, now in stand))}")
    return stand


def _to_do(o: argparse.Namespace, stand: Sequence[tuple[Planned, Standing]]) -> list[Planned]:
    wanted = ("missing", "stopped", *(["failed"] if o.retry_failed else []))
    return [planned for planned, now in stand if now.state in wanted]


def _check(runs: Sequence[Planned]) -> None:
    """What would stop every run alike is told once, before the first."""
    from train.data.huggingface import PREFIX
    from train.data.tokenizer import load_sentencepiece
    from train.methods import check

    for planned in runs:
        try:
            check(planned.config)
        except UserError as error:
            raise UserError(f"{planned.label}: {error}") from error
    for tokenizer in {planned.config.data.tokenizer for planned in runs}:
        if tokenizer and not tokenizer.startswith(PREFIX):
            try:
                load_sentencepiece(tokenizer)
            except UserError as error:
                raise UserError(f"{error} For all runs of a sweep: -- --data.tokenizer FILE.model") from error


def _speed(o: argparse.Namespace) -> Any:
    from train.grids.listing import Speed

    given = {} if o.gpu_tflops is None else {"tflops": o.gpu_tflops, "source": "as given"}
    return Speed(mfu=o.mfu, **given)


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


# --- the command line -------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m train.sweep", description="Run a grid of experiments.", epilog=EPILOG)
    parser.add_argument(
        "grid", nargs="?", metavar="GRID", help="a shipped grid's name, or FILE.yaml of your own (train/grids/description.py)"
    )
    parser.add_argument("--list", action="store_true", help="show the grids, or the runs of GRID: what they cost, and how they stand")
    parser.add_argument("--launcher", choices=("local", "slurm"), default="local", help="run here (default), or submit a job array")
    parser.add_argument("--only", nargs="+", default=(), metavar="PATTERN", help="cells whose row, column or key matches one of these")
    parser.add_argument("--seeds", nargs="+", type=_whole(0), metavar="N", help="instead of the grid's own")
    parser.add_argument("--root", type=Path, default=Path("runs"), metavar="FOLDER", help="where the runs' folders are; default runs")
    parser.add_argument("--ranks", type=_whole(1), metavar="R", help="processes of a run; of SLURM, on a node")
    parser.add_argument("--jobs", type=_whole(1), metavar="N", help="runs at a time; default 1 here, as SLURM has it there")
    parser.add_argument("--sbatch", type=Path, default=slurm.SCRIPT, metavar="FILE", help="your copy of launch/slurm/torchrun.sbatch")
    parser.add_argument("--retry-failed", action="store_true", help="start runs again that failed in an earlier sweep")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and start nothing")
    parser.add_argument("--gpu-tflops", type=_positive, metavar="T", help="peak of a GPU for the estimate; default an H100's")
    parser.add_argument("--mfu", type=_positive, default=0.4, metavar="SHARE", help="of that peak, reached in training; default 0.4")
    return parser


def _whole(least: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} on")
        return int(text)

    return whole


def _positive(text: str) -> float:
    value = float(text) if re.fullmatch(r"[\d.eE+-]+", text) else 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Returns the exit code; a user's mistake is one message, not a traceback."""
    options, words = cut_overrides(sys.argv[1:] if argv is None else argv)
    o = _parser().parse_args(options)
    o.sbatch = o.sbatch.resolve()
    return as_command(lambda: sweep(o, overrides_of(words)))


if __name__ == "__main__":
    sys.exit(main())
