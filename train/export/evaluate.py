"""Zero-shot accuracy of a trained model: `python -m train evaluate RUN_OR_CHECKPOINT_OR_EXPORT
--tasks arc_easy,piqa`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.config.run_folder import ZERO_SHOT
from train.errors import UserError, as_command
from train.system.device import uses_cuda
from train.system.environment import prepare_environment
from train.system.files import write_atomically
from train.tasks.language_modelling.lm_eval_tasks import (
    ACCURACY,
    NORMALISED,
    PAPER,
    PAPER_TASKS,
    Score,
    load_tasks,
    mean_score,
    score_tasks,
)

DESCRIPTION = f"""
Ask a trained model the questions of lm-eval's tasks, without examples before them, and print the
accuracies: acc takes the likeliest answer, acc_norm the likeliest by its length. A run or a
checkpoint is exported first, to a temporary folder. The tasks' data come from the hub or its cache.
`{PAPER}` stands for the seven of AlphaDecay's paper: {", ".join(PAPER_TASKS)}; the paper does not
say which of the two figures its mean of 43.35 (1B) is made of.
"""


def evaluate(
    source: Path,
    names: Sequence[str],
    include: Path | None = None,
    limit: int = 0,
    batch: int = 8,
    tokenizer: str = "",
) -> list[Score]:
    """Score a model on tasks, on the GPU where there is one.

    Args:
        source: a run's folder, a checkpoint, or an exported folder.
        names: tasks, or `paper`.
        include: a folder of task YAML files that are searched first.
        limit: questions of each task; 0 asks all.
        batch: rows of a forward pass.
        tokenizer: a SentencePiece .model instead of the run's own.

    Raises:
        UserError: no model there, or a task that cannot be asked.
    """
    tasks = load_tasks(names, include)  # before anything is exported
    if (source / "config.json").is_file():
        return _score_export(source, tasks, limit, batch)
    from train.export.command import export

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "export"
        export(source, folder, tokenizer=tokenizer)
        return _score_export(folder, tasks, limit, batch)


def _score_export(folder: Path, tasks: Any, limit: int, batch: int) -> list[Score]:
    from train.export.lm_eval_export import open_export

    model = open_export(folder, "cuda" if uses_cuda() else "cpu", batch)
    return score_tasks(model, tasks, limit)


def as_text(scores: Sequence[Score]) -> str:
    """Return a table, accuracies in percent, and the means of several tasks."""
    width = max(len(one.task) for one in scores)
    lines = [f"{'task':<{width}}  {'questions':>9}  figures"]
    for one in scores:
        lines.append(f"{one.task:<{width}}  {one.samples:>9,}  {_figures(one)}")
    if len(scores) > 1:
        means = ", ".join(
            f"{figure} {100 * mean_score(scores, figure):.2f}" for figure in (ACCURACY, NORMALISED)
        )
        lines.append(f"{'mean':<{width}}  {'':>9}  {means}")
    return "\n".join(lines)


def _figures(score: Score) -> str:
    parts = []
    for name, value in score.figures.items():
        error = score.errors.get(name)
        spread = f" ± {100 * error:.2f}" if error is not None else ""
        parts.append(f"{name} {100 * value:.2f}{spread}")
    return ", ".join(parts)


def _write(path: Path, source: Path, scores: Sequence[Score], limit: int) -> None:
    from alphadecay.inspect.run.versions import versions

    found = {
        "source": source.name,
        "limit": limit,
        "tasks": [one.record() for one in scores],
        "means": {name: mean_score(scores, name) for name in (ACCURACY, NORMALISED)},
        "versions": versions(),
    }
    try:
        write_atomically(path, json.dumps(found, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def make_parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(prog="python -m train evaluate", description=DESCRIPTION)
    add = parser.add_argument
    add("source", type=Path, help="a run's folder, a checkpoint, or an exported folder")
    add("--tasks", required=True, metavar="A,B", help=f"tasks of lm-eval, or {PAPER}")
    add("--include", type=Path, metavar="FOLDER", help="of task YAML files of your own")
    add("--limit", type=int, default=0, metavar="N", help="questions of each task; default 0, all")
    add("--batch", type=int, default=8, metavar="N", help="rows of a forward pass; default 8")
    add("--tokenizer", default="", metavar="FILE.model", help="instead of the run's own")
    add("--out", type=Path, metavar="FILE.json", help=f"default {ZERO_SHOT} in the given folder")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; a user's mistake is one message, not a
    traceback.
    """
    o = make_parser().parse_args(argv)
    prepare_environment()

    def work() -> None:
        if o.limit < 0 or o.batch < 1:
            raise UserError(f"--limit {o.limit} --batch {o.batch}: need 0 or more, 1 or more")
        names = [name.strip() for name in o.tasks.split(",") if name.strip()]
        if not names:
            raise UserError(f"--tasks names none; give tasks of lm-eval, or {PAPER}")
        scores = evaluate(o.source, names, o.include, o.limit, o.batch, o.tokenizer)
        print(as_text(scores))
        path = o.out or o.source / ZERO_SHOT
        _write(path, o.source.resolve(), scores, o.limit)
        print(f"in {path}", file=sys.stderr)

    return as_command(work)
