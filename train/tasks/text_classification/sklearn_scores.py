"""Scores of predicted classes, by scikit-learn: the extra `glue`."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from train.config.sentences import Metric


def scores(
    predicted_R: npt.NDArray[Any], labels_R: npt.NDArray[Any], metric: Metric
) -> dict[str, float]:
    """Return the accuracy, and the score of the metric beside it, by name.

    Args:
        predicted_R: classes.
        labels_R: the right ones.
    """
    found = {"accuracy": float(accuracy_score(labels_R, predicted_R))}
    if metric == "matthews":
        found["matthews"] = float(matthews_corrcoef(labels_R, predicted_R))
    elif metric == "f1":
        found["f1"] = float(f1_score(labels_R, predicted_R, zero_division=0.0))
    return found
