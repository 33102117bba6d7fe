"""The figures of predictions against their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from train.config.command_line import load_config
from train.tasks.registry import figure_of
from train.tasks.text_classification.evaluation import figures

LABELS = torch.tensor([0, 0, 1, 1, 1, 0, 1, 0], dtype=torch.float64)
GUESSES = torch.tensor([0, 1, 1, 1, 0, 0, 1, 0])
LOGITS = torch.nn.functional.one_hot(GUESSES).double() * 2


def test_accuracy_and_loss():
    found = figures(LOGITS, LABELS, "accuracy", regression=False)
    right, wrong = math.log1p(math.exp(-2)), math.log1p(math.exp(2))
    assert found == pytest.approx({"val_loss": (6 * right + 2 * wrong) / 8, "val_accuracy": 75.0})


def test_matthews_correlation():
    found = figures(LOGITS, LABELS, "matthews", regression=False)
    true, false, missed, rejected = 3, 1, 1, 3
    root = math.sqrt((true + false) * (true + missed) * (rejected + false) * (rejected + missed))
    assert found["val_matthews"] == pytest.approx(100 * (true * rejected - false * missed) / root)


def test_f1():
    found = figures(LOGITS, LABELS, "f1", regression=False)
    assert found["val_f1"] == pytest.approx(100 * 2 * 3 / (2 * 3 + 1 + 1))
    assert found["val_accuracy"] == 75.0


def test_correlations():
    predicted = np.array([0.1, 0.9, 0.4, 2.0])
    labels = np.array([0.0, 1.0, 1.5, 5.0])
    outputs = torch.from_numpy(predicted)[:, None]
    found = figures(outputs, torch.from_numpy(labels), "pearson_spearman", regression=True)
    assert found["val_loss"] == pytest.approx(float(((predicted - labels) ** 2).mean()))
    assert found["val_pearson"] == pytest.approx(100 * np.corrcoef(predicted, labels)[0, 1])
    ranks = np.corrcoef([0, 2, 1, 3], [0, 1, 2, 3])[0, 1]
    assert found["val_spearman"] == pytest.approx(100 * ranks)


def test_there_is_no_correlation_with_a_constant():
    found = figures(torch.zeros(4, 1).double(), LABELS[:4], "pearson_spearman", regression=True)
    assert math.isnan(found["val_pearson"])


@pytest.mark.parametrize(
    ("source", "labels", "name"),
    [("cola", 2, "val_matthews"), ("rte", 2, "val_accuracy"), ("qqp", 2, "val_f1")],
)
def test_each_task_of_glue_has_its_own_figure(source, labels, name):
    arguments = (f"--sentences.source=glue:{source}", f"--model.num_labels={labels}")
    task = ("--task=text_classification", "--model.architecture=roberta")
    assert figure_of(load_config([*task, *arguments])).name == name
