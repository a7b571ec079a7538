"""Which answers are sure enough to stand, and which a person should see."""

import numpy as np
from scipy.stats import beta

CONFIDENCE = 0.95  # one-sided: of the bound on how often an answer is right
NEVER_YES, NEVER_NO = 2.0, 0.0  # ends of the band that no probability passes


def choose_band(
    probability: np.ndarray, expected: np.ndarray, groups: np.ndarray, precision: float
) -> tuple[float, float]:
    """Return the smallest [low, high) around 0.5 outside of which answers are right as often as `precision` asks.

    Inputs are (N,): P(yes), bool, int. From `high` on the answer is yes, below `low` it is no. What must reach
    `precision` is the one-sided 95 % Clopper-Pearson bound of the share that is right, not the share itself; it is
    exact, while Wilson's promises too much near 1. Rows of one group count as fully dependent. A side on which nothing
    reaches it is left to people entirely (`NEVER_YES`, `NEVER_NO`).

    Source: Clopper and Pearson (1934) with the effective number of rows, as in Korn and Graubard (1998); that number
    is Kish's (1965), (sum of m)^2 / sum of m^2 for groups of m rows.
    """
    yes = probability >= 0.5
    high = _least_sure(probability[yes], expected[yes], groups[yes], precision)
    low = _least_sure(-probability[~yes], ~expected[~yes], groups[~yes], precision)
    if high is not None and not np.any(yes & (probability < high)):
        high = 0.5
    if low is not None:  # the band starts just above the last `no` that stands, or at 0.5 if all do
        low = 0.5 if not np.any(~yes & (probability > -low)) else float(np.nextafter(-low, 1))
    return NEVER_NO if low is None else low, NEVER_YES if high is None else high


def _least_sure(confidence: np.ndarray, right: np.ndarray, groups: np.ndarray, precision: float) -> float | None:
    """Return the lowest confidence from which on answers are right often enough; None: there is none."""
    order = np.argsort(-confidence, kind="stable")
    confidence, right, groups = confidence[order], right[order], groups[order]
    num_rows = np.arange(1, len(order) + 1)
    num_effective = num_rows**2 / np.cumsum(2 * _num_before(groups) + 1)  # m^2 grows by 2 m + 1 with each row
    bound = _lower_bound(np.cumsum(right) / num_rows, num_effective)
    is_last_of_ties = np.append(confidence[1:] != confidence[:-1], True)[: len(order)]
    enough = np.flatnonzero(is_last_of_ties & (bound >= precision))
    return float(confidence[enough[-1]]) if len(enough) else None


def _num_before(groups: np.ndarray) -> np.ndarray:
    """Return (N,) int: how many rows before each are of its group."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1) != 0)
    num_before = np.empty(len(groups), dtype=int)
    num_before[order] = np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))
    return num_before


def _lower_bound(share: np.ndarray, num_rows: np.ndarray) -> np.ndarray:
    """Return the one-sided Clopper-Pearson bound of shares that are right, of so many independent rows; 0 for none."""
    num_right = share * num_rows
    bound = beta.ppf(1 - CONFIDENCE, num_right, num_rows - num_right + 1)
    return np.where(num_right > 0, bound, 0.0)
