"""Figures of merit, from answers alone. The positive class is 'sensitive'."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, precision_score, recall_score

_UNDEFINED: Any = 0.0  # what an undefined precision, recall or F1 counts as; scikit-learn's stubs allow text only


@dataclass(frozen=True)
class Metrics:
    """How a model's answers to N labels compare with the right ones; NaN where N is 0."""

    accuracy: float
    precision: float
    recall: float
    f1: float
    format_validity: float  # share of answers that are exactly `yes` or `no`, then the end of the turn
    num_rows: int

    def as_dict(self) -> dict[str, float]:
        """Return the figures by name."""
        return asdict(self)


def compute_metrics(
    expected: Sequence[bool] | np.ndarray, answered: Sequence[bool] | np.ndarray, valid: Sequence[bool] | np.ndarray
) -> Metrics:
    """Compare answers (N,) with the expected ones (N,); an undefined precision, recall or F1 counts as 0."""
    if len(expected) == 0:
        return Metrics(*[math.nan] * 5, num_rows=0)
    return Metrics(
        accuracy=float(accuracy_score(expected, answered)),
        precision=float(precision_score(expected, answered, zero_division=_UNDEFINED)),
        recall=float(recall_score(expected, answered, zero_division=_UNDEFINED)),
        f1=float(f1_score(expected, answered, zero_division=_UNDEFINED)),
        format_validity=float(np.mean(valid)),
        num_rows=len(expected),
    )


def count_confusion(expected: Sequence[bool] | np.ndarray, answered: Sequence[bool] | np.ndarray) -> np.ndarray:
    """Return counts (2, 2): rows what is right (no, yes), columns what was answered (no, yes)."""
    return confusion_matrix(expected, answered, labels=[False, True])
