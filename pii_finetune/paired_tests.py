"""Two models on the same rows: whether one is worse by more than chance, or by more than a margin."""

import numpy as np
from scipy.stats import binomtest, bootstrap

NUM_RESAMPLES = 5_000  # the 5 % quantile then repeats to within 0.03 of the difference's standard error
_SEED = 0  # not a setting: the same answers always give the same verdict, and nobody can draw again until they pass
_MAX_DRAWN = 2_000_000  # group numbers drawn at once: some hundred MB for a test split of any size


def mcnemar_p_value(expected: np.ndarray, candidate: np.ndarray, production: np.ndarray) -> float:
    """Return the one-sided p-value of "production is right more often than the candidate"; all inputs (N,) bool.

    Only the rows on which exactly one of the two is right count; if the models are equally good, each is the right one
    with probability 1/2. Rows are taken for independent: where many are variants of one label, the p-value is too
    small and refuses too often. NaN if there are no rows.

    Source: McNemar (1947), in its exact form; Dietterich (1998), section 3.1, for classifiers.
    """
    if len(expected) == 0:
        return np.nan
    only_production = int(np.sum((production == expected) & (candidate != expected)))
    only_candidate = int(np.sum((candidate == expected) & (production != expected)))
    if only_production + only_candidate == 0:
        return 1.0
    return float(binomtest(only_production, only_production + only_candidate, 0.5, alternative="greater").pvalue)


def f1_gain_lower_bound(
    expected: np.ndarray, candidate: np.ndarray, production: np.ndarray, groups: np.ndarray, alpha: float
) -> float:
    """Return the `alpha` quantile of F1(candidate) - F1(production) over resampled groups.

    Inputs are (N,): three of bool, and `groups` of int. Groups are drawn, not rows, and both models are measured on the
    same draw. An undefined F1 counts as 0. NaN below two groups, of which nothing can be drawn.

    Source: percentile interval of Efron and Tibshirani (1993), chapter 13; whole groups as in Davison and Hinkley
    (1997), section 3.8.
    """
    names, group_of = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        return np.nan
    counts = [
        np.bincount(group_of, weights=rows, minlength=len(names))
        for answered in (candidate, production)
        for rows in (answered & expected, answered != expected)
    ]
    return float(
        bootstrap(
            counts,
            _f1_gain,
            paired=True,
            vectorized=True,
            n_resamples=NUM_RESAMPLES,
            batch=max(1, _MAX_DRAWN // len(names)),
            confidence_level=1 - alpha,
            alternative="greater",
            method="percentile",
            rng=np.random.default_rng(_SEED),
        ).confidence_interval.low
    )


def _f1_gain(
    found: np.ndarray, wrong: np.ndarray, found_before: np.ndarray, wrong_before: np.ndarray, axis: int
) -> np.ndarray:
    """Return the F1 difference of counts a group along `axis`: true positives, and false answers of either kind."""
    return _f1(found.sum(axis), wrong.sum(axis)) - _f1(found_before.sum(axis), wrong_before.sum(axis))


def _f1(found: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    total = 2 * found + wrong
    return np.divide(2 * found, total, out=np.zeros_like(total), where=total > 0)
