"""Runs a grid of experiments: `python -m train sweep GRID [--launcher local|slurm]`.

`--list` shows what there is and how it stands. A sweep runs what is missing and goes on with what
was cut, in one folder a run: ROOT/GRID/CELL/seed-N. A run that failed is told and left until
--retry-failed. Exit code: 0 all is finished (or submitted), 75 the same command goes on, 1 some
runs failed, 2 a mistake in the command.
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

from alphadecay.inspect.plan.known_peaks import ASSUMED_MFU
from train.config.tokenizer_name import PREFIX
from train.errors import UserError, as_command
from train.experiments.arguments import add_choice, cut_overrides, overrides_of, whole
from train.experiments.grids.registry import Grid, load_grid, shipped
from train.experiments.grids.resolved_run import Planned, plan
from train.experiments.sweeps import slurm
from train.experiments.sweeps.listing import Speed, list_grids, list_runs
from train.experiments.sweeps.local import LocalSweep, command_line
from train.experiments.sweeps.sweep_status import (
    RunStatus,
    count,
    refuse_mixtures,
    run_status,
    take_run,
)
from train.system.provenance import ROOT

EPILOG = """Overrides of every run come last, after `--`:
python -m train sweep adam --only '60M*' -- --run.micro_batch 64. A folder keeps the settings that
its run was begun with: other ones need another --root."""


def sweep(options: argparse.Namespace, extra: Mapping[str, str]) -> int:
    """Do what the command line asks for, and return the exit code.

    Args:
        options: the parsed options.
        extra: overrides of every run.

    Raises:
        UserError: what a user can mend.
    """
    if not options.grid and (options.only or not options.list):
        raise UserError(
            f"name a grid, ahead of the options: {', '.join(shipped())}, or a file of your own; "
            "--list tells more"
        )
    if not options.grid:
        return _list_all(options, extra)
    grid = load_grid(options.grid).narrowed(options.only, options.seeds)
    root = options.root.resolve() if options.launcher == "slurm" else options.root
    runs = [plan(run, extra) for run in grid.runs(root)]
    if options.list:
        print(*list_runs(grid, runs, _speed(options), cache(slurm.queue)), sep="\n")
        return 0
    refuse_mixtures(runs)
    if options.launcher == "slurm":
        return _submit(options, grid, runs, root)
    return _run_here(options, grid, runs)


def _list_all(options: argparse.Namespace, extra: Mapping[str, str]) -> int:
    grids = [load_grid(name).narrowed(seeds=options.seeds) for name in shipped()]
    planned = [(grid, [plan(run, extra) for run in grid.runs(options.root)]) for grid in grids]
    print(*list_grids(planned, _speed(options)), sep="\n")
    return 0


def _run_here(options: argparse.Namespace, grid: Grid, runs: Sequence[Planned]) -> int:
    todo = _to_do(options, _statuses(options, grid, runs))
    _check(todo)
    local = LocalSweep(
        runs, options.ranks or 1, options.jobs or 1, options.retry_failed, slurm.queue, _say
    )
    if options.dry_run:
        for planned in todo:
            print(shlex.join(command_line(planned, options.ranks or 1)))
        return 0
    code = local.run()
    outcomes = {}
    for planned in runs:
        label = planned.run.label
        ended = local.outcomes.get(label)
        outcomes[label] = ended or run_status(planned.run.folder, slurm.queue)
    _say(count(outcomes.values()))
    for state in ("failed", "stopped"):
        names = [label for label, outcome in outcomes.items() if outcome.state == state]
        if names:
            _say(f"{state}: {', '.join(names)}")
    return code


def _submit(options: argparse.Namespace, grid: Grid, runs: Sequence[Planned], root: Path) -> int:
    if Path.cwd() != ROOT:  # the job script takes the folder it is submitted from for the project
        raise UserError(f"submit from the project's folder: cd {ROOT}")
    folder = root / grid.name
    lease = take_run(folder, _say)
    if lease is None:
        raise UserError(f"another sweep is submitting runs of {folder}; wait for it")
    try:
        statuses = _statuses(options, grid, runs)
        failed = [(run, now) for run, now in statuses if now.state == "failed"]
        left = [] if options.retry_failed else failed
        for planned, now in left:
            _say(f"{planned.run.label}: failed ({now.reason}); --retry-failed submits it again")
        todo = _to_do(options, statuses)
        _check(todo)
        if options.dry_run:
            command = slurm.command_line(len(todo), options.jobs, options.sbatch, grid.name)
            print(shlex.join(command), *map(slurm.line, todo), sep="\n")
        elif todo:
            slurm.submit(todo, folder, grid.name, options.jobs, options.ranks, options.sbatch, _say)
        else:
            _say("nothing to submit")
    finally:
        lease.release()
    return 1 if left else 0


def _statuses(
    options: argparse.Namespace, grid: Grid, runs: Sequence[Planned]
) -> list[tuple[Planned, RunStatus]]:
    """Return how the runs stand, told in a line."""
    queue = cache(slurm.queue)
    statuses = [(planned, run_status(planned.run.folder, queue)) for planned in runs]
    if not options.dry_run:
        counts = count(now for _, now in statuses)
        _say(f"{grid.name} in {options.root / grid.name}: {counts}")
    return statuses


def _to_do(
    options: argparse.Namespace, statuses: Sequence[tuple[Planned, RunStatus]]
) -> list[Planned]:
    wanted = {"missing", "stopped"}
    if options.retry_failed:
        wanted.add("failed")
    return [planned for planned, now in statuses if now.state in wanted]


def _check(runs: Sequence[Planned]) -> None:
    """Tell once, before the first run, what would stop every run alike."""
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


def _speed(options: argparse.Namespace) -> Speed:
    if options.gpu_tflops is None:
        return Speed(mfu=options.mfu)
    return Speed(options.gpu_tflops, options.mfu, "as given")


def _say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


# --- the command line -----------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train sweep", description="Run a grid of experiments.", epilog=EPILOG
    )
    parser.add_argument(
        "grid",
        nargs="?",
        metavar="GRID",
        help="a shipped grid's name, or FILE.yaml of your own "
        "(train/experiments/grids/grid_yaml.py)",
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
    _add_starting(parser)
    _add_estimate(parser)
    return parser


def _add_starting(parser: argparse.ArgumentParser) -> None:
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


def _add_estimate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--gpu-tflops",
        type=positive,
        metavar="T",
        help="peak of a GPU for the estimate; default an H100's",
    )
    parser.add_argument(
        "--mfu",
        type=positive,
        default=ASSUMED_MFU,
        metavar="SHARE",
        help=f"of that peak, reached in training; default {ASSUMED_MFU}",
    )


def positive(text: str) -> float:
    """Read an option that is a number above 0; argparse tells of another by this name."""
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError(text)
    return value


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    A user's mistake is one message, not a traceback.
    """
    own_words, override_words = cut_overrides(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(own_words)
    options.sbatch = options.sbatch.resolve()
    return as_command(lambda: sweep(options, overrides_of(override_words)))
