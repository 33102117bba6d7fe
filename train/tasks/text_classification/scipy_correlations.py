"""Correlations of predicted values, by scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import pearsonr, spearmanr


def correlations(predicted_R: npt.NDArray[Any], labels_R: npt.NDArray[Any]) -> dict[str, float]:
    """Return Pearson's and Spearman's; NaN where either side is constant and there is none."""
    if np.ptp(predicted_R) == 0 or np.ptp(labels_R) == 0:
        return {"pearson": float("nan"), "spearman": float("nan")}
    return {
        "pearson": float(pearsonr(predicted_R, labels_R).statistic),
        "spearman": float(spearmanr(predicted_R, labels_R).statistic),
    }
