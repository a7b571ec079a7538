"""Figures of merit, from answers and probabilities alone. The positive class is 'sensitive'."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

_UNDEFINED: Any = 0.0  # what an undefined precision, recall or F1 counts as; scikit-learn's stubs allow text only
NUM_BINS = 10  # of the calibration error: one in ten of the rows each

Booleans = Sequence[bool] | np.ndarray
Probabilities = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Metrics:
    """How a model's answers to N labels compare with the right ones; NaN where N is 0."""

    accuracy: float
    balanced_accuracy: float  # mean of the recalls of both answers; of the one there is where all rows have one
    precision: float
    recall: float
    f1: float
    auroc: float  # NaN where all rows have one answer
    average_precision: float  # NaN where all rows have one answer
    brier: float  # mean squared error of P(yes): 0 is best, 0.25 is what a coin says
    ece: float  # expected calibration error of P(yes), see `reliability_curve`: 0 is best
    format_validity: float  # share of answers that are exactly `yes` or `no`, then the end of the turn
    num_rows: int

    def as_dict(self) -> dict[str, float]:
        """Return the figures by name."""
        return asdict(self)


@dataclass(frozen=True)
class ReliabilityCurve:
    """Rows in B <= num_bins bins of P(yes), in rising order: what was predicted beside what is right."""

    predicted: np.ndarray  # (B,) float64: mean P(yes)
    observed: np.ndarray  # (B,) float64: share of rows whose answer is yes
    count: np.ndarray  # (B,) int: rows, all > 0

    @property
    def error(self) -> float:
        """The mean over rows of their bin's distance from the diagonal; NaN without rows."""
        if len(self.count) == 0:
            return math.nan
        return float(np.average(np.abs(self.predicted - self.observed), weights=self.count))


def compute_metrics(
    expected: Booleans, probability: Probabilities, valid: Booleans, answered: Booleans | None = None
) -> Metrics:
    """Compare P(yes) (N,) and answers (N,) with the right answers (N,); `answered` defaults to P(yes) >= 0.5.

    An undefined precision, recall or F1 counts as 0, so that a model that never says yes is bad rather than unknown.
    """
    if len(expected) == 0:
        return Metrics(**{each.name: math.nan for each in fields(Metrics) if each.name != "num_rows"}, num_rows=0)
    right, probability = np.asarray(expected, dtype=bool), np.asarray(probability, dtype=float)
    said = probability >= 0.5 if answered is None else np.asarray(answered, dtype=bool)
    answers = np.unique(right)
    return Metrics(
        accuracy=float(accuracy_score(right, said)),
        balanced_accuracy=float(recall_score(right, said, labels=answers, average="macro", zero_division=_UNDEFINED)),
        precision=float(precision_score(right, said, zero_division=_UNDEFINED)),
        recall=float(recall_score(right, said, zero_division=_UNDEFINED)),
        f1=float(f1_score(right, said, zero_division=_UNDEFINED)),
        auroc=float(roc_auc_score(right, probability)) if len(answers) == 2 else math.nan,
        average_precision=float(average_precision_score(right, probability)) if len(answers) == 2 else math.nan,
        brier=float(brier_score_loss(right, probability, pos_label=True)),
        ece=reliability_curve(right, probability).error,
        format_validity=float(np.mean(valid)),
        num_rows=len(right),
    )


def f1_of(expected: Booleans, answered: Booleans) -> float:
    """Return the F1 of answers (N,) alone; 0 where it is undefined."""
    return float(f1_score(np.asarray(expected, dtype=bool), np.asarray(answered, dtype=bool), zero_division=_UNDEFINED))


def reliability_curve(expected: Booleans, probability: Probabilities, num_bins: int = NUM_BINS) -> ReliabilityCurve:
    """Return predicted and observed shares of yes in bins of equal mass: as many rows in each as ties allow.

    Rows of one probability are in one bin, so the order of rows does not matter; bins without rows are left out. P(yes)
    is binned, not the probability of the answer that was given.

    Source: Nixon et al. 2019, "Measuring Calibration in Deep Learning" (arXiv:1904.01685): equal-mass ("adaptive") bins
    leave none nearly empty, as equal widths do where most probabilities are near 0 or 1.
    """
    right, probability = np.asarray(expected, dtype=float), np.asarray(probability, dtype=float)
    bins = equal_mass_bins(probability, num_bins)
    count = np.bincount(bins)
    return ReliabilityCurve(
        np.bincount(bins, probability) / count if len(count) else np.empty(0),
        np.bincount(bins, right) / count if len(count) else np.empty(0),
        count,
    )


def equal_mass_bins(probability: np.ndarray, num_bins: int = NUM_BINS) -> np.ndarray:
    """Return the bin (N,) int of each probability (N,), numbered 0, 1, ... in rising order without gaps."""
    if len(probability) == 0:
        return np.empty(0, dtype=int)
    edges = np.quantile(probability, np.arange(1, num_bins) / num_bins)
    return np.unique(np.searchsorted(edges, probability, side="left"), return_inverse=True)[1]


def count_confusion(expected: Booleans, answered: Booleans) -> np.ndarray:
    """Return counts (2, 2): rows what is right (no, yes), columns what was answered (no, yes)."""
    return confusion_matrix(expected, answered, labels=[False, True])
