import math

import numpy as np
import pytest
from scipy.special import comb

from pii_finetune import paired_tests
from pii_finetune.paired_tests import f1_gain_lower_bound, mcnemar_p_value


def answers(only_production: int, only_candidate: int, both: int = 30, neither: int = 4) -> tuple[np.ndarray, ...]:
    """Expected answers, the candidate's and production's, with so many rows on which they are right."""
    candidate_right = np.repeat([False, True, True, False], [only_production, only_candidate, both, neither])
    production_right = np.repeat([True, False, True, False], [only_production, only_candidate, both, neither])
    expected = np.arange(len(candidate_right)) % 2 == 0
    return expected, expected == candidate_right, expected == production_right


def test_mcnemar_is_the_value_worked_out_by_hand():
    # 6 rows where only production is right, 2 where only the candidate is: (28 + 8 + 1) / 2**8 = 37 / 256
    assert mcnemar_p_value(*answers(6, 2)) == pytest.approx(37 / 256)


@pytest.mark.parametrize(("only_production", "only_candidate"), [(9, 3), (3, 9), (25, 14), (1, 0)])
def test_mcnemar_is_one_side_of_the_exact_two_sided_test(only_production: int, only_candidate: int):
    # statsmodels.stats.contingency_tables.mcnemar(exact=True): 2 * binom.cdf(min(b, c), b + c, 0.5)
    total = only_production + only_candidate
    two_sided = 2 * sum(comb(total, k, exact=True) for k in range(min(only_production, only_candidate) + 1)) / 2**total
    mine = mcnemar_p_value(*answers(only_production, only_candidate))
    other_side = mcnemar_p_value(*answers(only_candidate, only_production))
    assert 2 * min(mine, other_side) == pytest.approx(two_sided)
    assert (mine < other_side) == (only_production > only_candidate)


def test_rows_on_which_both_are_right_or_both_wrong_do_not_count():
    assert mcnemar_p_value(*answers(6, 2, both=0, neither=0)) == mcnemar_p_value(*answers(6, 2, both=500, neither=90))


def test_models_that_never_differ_are_not_told_apart():
    assert mcnemar_p_value(*answers(0, 0)) == 1
    expected, candidate, production = answers(0, 0)
    assert f1_gain_lower_bound(expected, candidate, production, np.arange(len(expected)), 0.05) == 0


def test_nothing_measured_is_not_a_number():
    none = np.zeros(0, dtype=bool)
    assert math.isnan(mcnemar_p_value(none, none, none))
    assert math.isnan(f1_gain_lower_bound(none, none, none, none.astype(int), 0.05))


def test_one_group_alone_says_nothing_of_chance():
    expected, candidate, production = answers(6, 2)
    assert math.isnan(f1_gain_lower_bound(expected, candidate, production, np.zeros(len(expected), int), 0.05))


def f1(expected: np.ndarray, answered: np.ndarray) -> float:
    precision, recall = expected[answered].mean(), answered[expected].mean()
    return 2 * precision * recall / (precision + recall)


def test_the_bound_is_the_quantile_of_a_bootstrap_written_as_a_loop():
    rng = np.random.default_rng(3)
    groups = rng.integers(0, 60, 240)
    expected = rng.random(240) < 0.5
    candidate, production = expected ^ (rng.random(240) < 0.1), expected ^ (rng.random(240) < 0.12)
    rows_of = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    gains = []
    for _ in range(1500):
        rows = np.concatenate([rows_of[at] for at in rng.integers(0, len(rows_of), len(rows_of))])
        gains.append(f1(expected[rows], candidate[rows]) - f1(expected[rows], production[rows]))
    bound = f1_gain_lower_bound(expected, candidate, production, groups, 0.05)
    assert bound == pytest.approx(np.quantile(gains, 0.05), abs=0.1 * np.std(gains))


def share_let_through(num_groups: int, rows_a_group: int, clustered: bool, margin: float = 0.05) -> float:
    """How often a model whose true F1 is worse by exactly the margin passes; the rows of a group are wrong together."""
    rng = np.random.default_rng(1)
    passed = 0
    for _ in range(200):
        expected, production, candidate = (
            np.repeat(rng.random(num_groups) < share, rows_a_group) for share in (0.5, 0.10, 0.10 + margin)
        )
        groups = np.arange(len(expected)) // (rows_a_group if clustered else 1)
        bound = f1_gain_lower_bound(expected, expected ^ candidate, expected ^ production, groups, 0.05)
        passed += bound > -margin
    return passed / 200


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(paired_tests, "NUM_RESAMPLES", 500)


@pytest.mark.usefixtures("few_resamples")
def test_a_model_worse_by_the_margin_passes_as_often_as_alpha_says():
    assert share_let_through(120, 5, clustered=True) == pytest.approx(0.05, abs=0.035)


@pytest.mark.usefixtures("few_resamples")
def test_rows_taken_for_independent_would_let_a_worse_model_through():
    assert share_let_through(120, 5, clustered=False) > 0.15
