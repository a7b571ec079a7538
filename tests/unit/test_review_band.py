import numpy as np
import pytest
from scipy.stats import binomtest

from pii_finetune.review_band import NEVER_NO, NEVER_YES, _num_before, choose_band


def test_the_band_ends_where_the_bound_falls_below_what_is_asked():
    # 100 sure answers, all right, then 40 less sure ones of which half are right; the same on the side of no
    probability = np.repeat([0.99, 0.7, 0.3, 0.01], [100, 40, 40, 100])
    expected = np.concatenate([np.ones(100), np.arange(80) % 2, np.zeros(100)]).astype(bool)
    low, high = choose_band(probability, expected, np.arange(280), 0.95)
    assert high == 0.99
    assert 0.01 < low < np.nextafter(0.01, 1) + 1e-12


@pytest.mark.parametrize(("right", "wrong"), [(58, 0), (59, 0), (92, 1), (93, 1)])
def test_the_bound_is_clopper_and_pearsons(right: int, wrong: int):
    expected = np.repeat([True, False], [right, wrong])
    _, high = choose_band(np.full(right + wrong, 0.9), expected, np.arange(right + wrong), 0.95)
    # one side of a two-sided interval of 90 % is the one-sided bound of 95 %
    bound = binomtest(right, right + wrong).proportion_ci(0.9, method="exact").low
    assert high == (0.5 if bound >= 0.95 else NEVER_YES)


def test_no_band_is_needed_where_every_answer_is_right():
    probability = np.repeat([0.9, 0.1], 100)
    assert choose_band(probability, probability > 0.5, np.arange(200), 0.95) == (0.5, 0.5)


def test_what_is_never_right_enough_goes_to_review_entirely():
    probability = np.repeat([0.9, 0.1], 100)
    assert choose_band(probability, np.arange(200) % 2 == 0, np.arange(200), 0.95) == (NEVER_NO, NEVER_YES)
    none = np.zeros(0)
    assert choose_band(none, none.astype(bool), none.astype(int), 0.95) == (NEVER_NO, NEVER_YES)


def test_rows_that_are_variants_of_one_label_prove_as_little_as_one():
    probability, expected = np.full(100, 0.9), np.ones(100, dtype=bool)
    assert choose_band(probability, expected, np.arange(100), 0.95)[1] == 0.5
    assert choose_band(probability, expected, np.arange(100) // 2, 0.95)[1] == NEVER_YES  # 50 labels are fewer than 59
    assert choose_band(probability, expected, np.zeros(100, dtype=int), 0.95)[1] == NEVER_YES


def test_answers_of_one_probability_are_on_one_side_of_the_band():
    rng = np.random.default_rng(0)
    probability = rng.integers(0, 11, 600) / 10
    expected = rng.random(600) < probability
    low, high = choose_band(probability, expected, np.arange(600), 0.9)
    order = rng.permutation(600)
    assert choose_band(probability[order], expected[order], np.arange(600), 0.9) == (low, high)
    assert high in probability
    assert np.nextafter(low, 0) in probability


def test_rows_before_are_counted_by_group():
    assert _num_before(np.array([7, 3, 7, 7, 3, 0])).tolist() == [0, 0, 1, 2, 1, 0]
