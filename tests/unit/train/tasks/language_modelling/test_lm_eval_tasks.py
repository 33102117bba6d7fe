"""Names of tasks, scores of lm-eval's results, and what is said where it or data are missing."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder

import pytest

from tests.tasks_of_files import write_task
from train.errors import UserError
from train.tasks.language_modelling.lm_eval_tasks import (
    PAPER_TASKS,
    Score,
    load_tasks,
    mean_score,
    task_names,
)


def test_the_papers_name_stands_for_its_seven():
    assert task_names(["piqa", "paper", "mine", "mine"]) == [
        "piqa",
        *(name for name in PAPER_TASKS if name != "piqa"),
        "mine",
    ]


def test_a_mean_takes_accuracy_where_a_task_has_no_other():
    scores = [
        Score("a", 4, {"acc": 0.5, "acc_norm": 0.75}, {}),
        Score("b", 9, {"acc": 0.25}, {}),
        Score("c", 1, {"perplexity": 3.0}, {}),
    ]
    assert mean_score(scores, "acc") == 0.375
    assert mean_score(scores, "acc_norm") == 0.5


class Absent(MetaPathFinder):
    """Finds no lm_eval."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname == "lm_eval":
            raise ModuleNotFoundError(name=fullname)


def test_without_lm_eval_the_extra_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "lm_eval"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    with pytest.raises(UserError, match=r"\[zeroshot\]"):
        load_tasks(["piqa"])


def test_data_that_are_not_there_are_an_error_of_the_user(tmp_path):
    folder = write_task(tmp_path, "gone")
    (tmp_path / "gone.jsonl").unlink()
    with pytest.raises(UserError, match="the data of gone cannot be loaded"):
        load_tasks(["gone"], folder)
