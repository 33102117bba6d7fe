"""Tasks of lm-eval asked of a run under way and of what it left: the same answers.

The tasks are made of local files.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.integration.program import metrics, run
from tests.tasks_of_files import write_task
from train.export.trained import find_trained

QUESTIONS = 9  # no multiple of two ranks' rows


@pytest.fixture(scope="module")
def tasks(tmp_path_factory) -> Path:
    """A folder with two tasks, and one that wants text."""
    folder = tmp_path_factory.mktemp("tasks")
    write_task(folder, "one_choice", QUESTIONS)
    write_task(folder, "other_choice", 4)
    return write_task(folder, "writing", 2, "generate_until")


def asking(tasks: Path, *names: str) -> list[str]:
    """Return the arguments that ask tasks of a run."""
    return [
        "--eval.downstream=3",
        f"--eval.downstream_tasks={json.dumps(names)}",
        f"--eval.downstream_folder={tasks}",
    ]


@pytest.mark.parametrize("engine", ["deepspeed", "fsdp2"])
def test_a_run_under_way_answers_as_its_export_does(workplace, tasks, tmp_path, engine):
    name = f"asked-{engine}"
    arguments = (*asking(tasks, "one_choice", "other_choice"), "--engine.kind", engine)
    outcome = workplace.run(2, name, *arguments)
    assert outcome.code == 0, outcome.output
    folder = workplace.folder / name
    lines = metrics(folder, "downstream")
    assert [line["step"] for line in lines] == [3, 6]

    outcome = run(
        1,
        ROOT,
        *("-m", "train", "evaluate", str(folder), "--include", str(tasks)),
        *("--tasks", "one_choice,other_choice", "--out", str(tmp_path / "found.json")),
    )
    assert outcome.code == 0 and "mean" in outcome.output, outcome.output
    found = json.loads((tmp_path / "found.json").read_text())
    for figure in ("acc", "acc_norm"):
        of_export = {task["task"]: task["figures"][figure] for task in found["tasks"]}
        assert lines[-1][figure] == of_export
        assert lines[-1][f"mean_{figure}"] == pytest.approx(sum(of_export.values()) / 2)
    assert [task["samples"] for task in found["tasks"]] == [QUESTIONS, 4]
    if engine == "deepspeed":
        assert lines[-1]["acc"]["one_choice"] == accuracy_by_hand(folder, tasks)

    # Gone on from a checkpoint, what was asked before it is not asked again.
    cut = workplace.folder / f"{name}-cut"
    step = "checkpoints/step-00000003"
    shutil.copytree(folder / step, cut / step)
    shutil.copy(folder / "metrics.jsonl", cut)
    assert workplace.run(2, cut.name, *arguments).code == 0
    assert metrics(cut, "downstream") == lines


def accuracy_by_hand(folder: Path, tasks: Path) -> float:
    """The share of questions whose right answer is the likeliest, by one forward pass each."""
    trained = find_trained(folder, "", print)
    model = trained.load(torch.float32)
    questions = [json.loads(line) for line in (tasks / "one_choice.jsonl").open()]
    right = 0
    for question in questions:
        sums = []
        for choice in question["choices"]:
            before, whole = trained.tokenizer.encode(
                [question["question"], f"{question['question']} {choice}"]
            )
            with torch.no_grad():
                logits = model(torch.tensor([list(whole)])).logits[0].log_softmax(-1)
            asked = range(len(before), len(whole))
            sums.append(sum(logits[at - 1, whole[at]].item() for at in asked))
        right += sums.index(max(sums)) == question["label"]
    return right / len(questions)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("writing",), "the task writing is of type generate_until"),
        (("one_choise",), "one_choise is no task of lm-eval or of"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_the_first_step(workplace, tasks, names, message):
    outcome = workplace.run(1, f"refused-{names[0]}", *asking(tasks, *names))
    assert outcome.code == 2 and message in outcome.output, outcome.output
    assert "Traceback" not in outcome.output
    assert not (workplace.folder / f"refused-{names[0]}" / "checkpoints").exists()
