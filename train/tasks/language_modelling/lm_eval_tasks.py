"""Scores a model on tasks of lm-eval, EleutherAI's harness: their data, questions and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.errors import UserError
from train.system.missing_packages import explained

if TYPE_CHECKING:
    from lm_eval.api.model import LM

PAPER = "paper"  # stands for the paper's seven (arXiv 2506.14562, zero-shot)
PAPER_TASKS = (
    "arc_challenge",
    "arc_easy",
    "piqa",
    "hellaswag",
    "openbookqa",
    "winogrande",
    "boolq",
)
# What a model answers by the likelihood of given texts alone.
BY_LIKELIHOOD = ("multiple_choice", "loglikelihood")
ACCURACY = "acc"
NORMALISED = "acc_norm"  # by the length of the answers


@dataclass(frozen=True)
class Score:
    """What a model reached on a task.

    Args:
        task: its name.
        samples: questions that were asked.
        figures: by lm-eval's names, such as acc and acc_norm, in [0, 1] where they are shares.
        errors: their standard errors, where there is one.
    """

    task: str
    samples: int
    figures: Mapping[str, float]
    errors: Mapping[str, float]

    def record(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


def task_names(given: Sequence[str]) -> list[str]:
    """Return the names with `paper` replaced by its seven, each once."""
    names = [name for one in given for name in (PAPER_TASKS if one == PAPER else (one,))]
    return list(dict.fromkeys(names))


def load_tasks(names: Sequence[str], include: Path | None = None) -> dict[str, Any]:
    """Load tasks with their data, from the hub, its cache or local files.

    Args:
        names: of tasks, or `paper`.
        include: a folder of task YAML files that are searched first.

    Raises:
        UserError: lm-eval is not installed, a name is unknown, or data cannot be had.
    """
    try:
        from lm_eval.tasks import TaskManager
    except ModuleNotFoundError as error:
        raise explained(error) from error
    wanted = task_names(names)
    folder = str(include) if include else None
    manager = TaskManager(include_path=folder, include_defaults=False)
    if set(wanted) - set(manager.all_tasks):
        manager = TaskManager(include_path=folder)  # reads some thousand files
    unknown = [name for name in wanted if name not in manager.all_tasks]
    if unknown:
        raise UserError(
            f"{unknown[0]} is no task of lm-eval{' or of ' + folder if folder else ''}; "
            "`lm-eval ls tasks` lists its own"
        )
    try:
        loaded: dict[str, Any] = manager.load(wanted)
    except Exception as error:  # whatever a task's data loader raises
        reason = " ".join(str(error).split())
        raise UserError(
            f"the data of {', '.join(wanted)} cannot be loaded: {reason}; fetch them once where "
            "there is a network, and set HF_HUB_OFFLINE=1 where there is none"
        ) from error
    return loaded


def refuse_generation(tasks: Mapping[str, Any]) -> None:
    """Refuse tasks that want text written: an engine of a run tells likelihoods alone.

    Raises:
        UserError: names the task.
    """
    for name, task in tasks["tasks"].items():
        if task.OUTPUT_TYPE not in BY_LIKELIHOOD:
            raise UserError(
                f"the task {name} is of type {task.OUTPUT_TYPE}, and a run can ask for likelihoods "
                "only; take it out, and score the exported model with `python -m train evaluate`"
            )


def score_tasks(model: LM, tasks: Mapping[str, Any], limit: int = 0) -> list[Score]:
    """Ask a model all questions, without examples before them.

    Args:
        tasks: from `load_tasks`.
        limit: questions of each task, its first ones; 0 asks all.
    """
    from lm_eval.evaluator import evaluate

    results: Any = evaluate(
        model, dict(tasks), limit=limit or None, bootstrap_iters=0, log_samples=False
    )
    return [
        _score(name, results["results"][name], int(results["n-samples"][name]["effective"]))
        for name in tasks["tasks"]
    ]


def mean_score(scores: Sequence[Score], figure: str) -> float:
    """Return the plain mean over the tasks; a task without `figure` counts by its accuracy."""
    values = [one.figures.get(figure, one.figures.get(ACCURACY)) for one in scores]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else float("nan")


def _score(name: str, result: Mapping[str, Any], samples: int) -> Score:
    figures: dict[str, float] = {}
    errors: dict[str, float] = {}
    for key, value in result.items():
        metric, _, rest = key.partition(",")  # acc,none and acc_stderr,none
        if not rest or not isinstance(value, (int, float)):
            continue
        if metric.endswith("_stderr"):
            errors[metric.removesuffix("_stderr")] = float(value)
        else:
            figures[metric] = float(value)
    return Score(name, samples, figures, errors)
