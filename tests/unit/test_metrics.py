import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii_finetune.metrics import Metrics, compute_metrics, count_confusion, equal_mass_bins, reliability_curve

ROWS = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])), min_size=1, max_size=60)
EXPECTED = [True, True, True, False, False]
PROBABILITY = [0.9, 0.8, 0.2, 0.6, 0.1]


def measure(rows: list[tuple[bool, float]]) -> Metrics:
    return compute_metrics([yes for yes, _ in rows], [p for _, p in rows], [True] * len(rows))


def test_the_figures_are_those_of_their_definitions():
    metrics = compute_metrics(EXPECTED, PROBABILITY, [True, True, True, True, False])
    assert metrics.accuracy == pytest.approx(3 / 5)
    assert metrics.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert metrics.precision == metrics.recall == metrics.f1 == pytest.approx(2 / 3)
    assert metrics.auroc == pytest.approx(5 / 6)  # of 3 x 2 pairs only (0.2, 0.6) is in the wrong order
    assert metrics.average_precision == pytest.approx(1 / 3 * (1 + 1 + 3 / 4))
    assert metrics.brier == pytest.approx((0.01 + 0.04 + 0.64 + 0.36 + 0.01) / 5)
    assert metrics.ece == pytest.approx((0.1 + 0.2 + 0.8 + 0.6 + 0.1) / 5)  # five rows, a bin each
    assert metrics.format_validity == pytest.approx(4 / 5)
    assert metrics.num_rows == 5


def test_sensitive_is_the_positive_class():
    metrics = compute_metrics([True, False, False, False], [0.6] * 4, [True] * 4)
    assert (metrics.recall, metrics.precision) == (1.0, 0.25)


def test_a_probability_of_a_half_is_a_yes_unless_the_answers_are_given():
    assert compute_metrics([True, False], [0.5, 0.4], [True] * 2).accuracy == 1.0
    assert compute_metrics([True, False], [0.5, 0.4], [True] * 2, [False, True]).accuracy == 0.0


def test_given_answers_leave_the_figures_of_the_probability_alone():
    asked = compute_metrics(EXPECTED, PROBABILITY, [True] * 5).as_dict()
    given_no = compute_metrics(EXPECTED, PROBABILITY, [True] * 5, [False] * 5).as_dict()
    same = {name for name in asked if asked[name] == given_no[name]}
    assert same == {"auroc", "average_precision", "brier", "ece", "format_validity", "num_rows"}


def test_what_is_undefined_counts_as_zero_without_a_warning(recwarn: pytest.WarningsRecorder):
    metrics = compute_metrics([True, True], [0.1, 0.2], [True, True])
    assert (metrics.precision, metrics.recall, metrics.f1, metrics.balanced_accuracy) == (0.0, 0.0, 0.0, 0.0)
    assert not recwarn.list


@pytest.mark.parametrize("answer", [True, False])
def test_rows_of_one_answer_have_no_order_to_measure_but_a_calibration(answer: bool, recwarn: pytest.WarningsRecorder):
    metrics = compute_metrics([answer] * 2, [0.9, 0.2], [True, True])
    assert math.isnan(metrics.auroc)
    assert math.isnan(metrics.average_precision)
    assert metrics.brier == pytest.approx((0.01 + 0.64) / 2 if answer else (0.81 + 0.04) / 2)
    assert metrics.balanced_accuracy == 0.5
    assert not recwarn.list


def test_a_model_that_always_says_yes_is_balanced_at_a_half_however_many_rows_are_yes():
    metrics = compute_metrics([True] * 9 + [False], [0.9] * 10, [True] * 10)
    assert (metrics.accuracy, metrics.balanced_accuracy, metrics.auroc) == (0.9, 0.5, 0.5)


def test_no_rows_have_no_figures_rather_than_good_ones():
    metrics = compute_metrics([], [], [])
    assert metrics.num_rows == 0
    assert all(math.isnan(value) for name, value in metrics.as_dict().items() if name != "num_rows")


def test_figures_are_plain_floats_that_json_and_mlflow_take():
    metrics = compute_metrics(np.array([True, False]), np.array([0.9, 0.2]), np.array([True, True]))
    assert {type(value) for name, value in metrics.as_dict().items() if name != "num_rows"} == {float}


@given(ROWS, st.randoms())
def test_the_order_of_rows_does_not_matter(rows: list[tuple[bool, float]], random):
    shuffled = random.sample(rows, len(rows))
    assert measure(shuffled).as_dict() == pytest.approx(measure(rows).as_dict(), nan_ok=True)


@given(ROWS)
def test_auroc_is_the_share_of_pairs_in_the_right_order(rows: list[tuple[bool, float]]):
    pairs = [(p > q) + (p == q) / 2 for yes, p in rows for no, q in rows if yes and not no]
    assert measure(rows).auroc == pytest.approx(np.mean(pairs) if pairs else math.nan, nan_ok=True)


@given(ROWS)
def test_the_calibration_error_is_never_above_the_mean_distance(rows: list[tuple[bool, float]]):
    assert measure(rows).ece <= np.mean([abs(yes - p) for yes, p in rows]) + 1e-12


def test_a_calibrated_model_has_no_calibration_error_and_an_overconfident_one_has_its_excess():
    expected = [True] * 8 + [False] * 2 + [True] * 2 + [False] * 8
    assert compute_metrics(expected, [0.8] * 10 + [0.2] * 10, [True] * 20).ece == pytest.approx(0)
    assert compute_metrics(expected, [0.99] * 10 + [0.01] * 10, [True] * 20).ece == pytest.approx(0.19)


def test_bins_of_the_reliability_curve_have_equal_mass():
    probability = np.random.default_rng(0).beta(0.2, 0.2, size=1000)  # most near 0 or 1
    curve = reliability_curve(probability > 0.5, probability)
    assert curve.count.tolist() == [100] * 10
    assert curve.predicted.tolist() == sorted(curve.predicted)
    assert curve.predicted[0] == pytest.approx(np.sort(probability)[:100].mean())
    assert curve.observed.tolist()[:4] == [0, 0, 0, 0]


@given(ROWS, st.integers(1, 12))
def test_rows_of_one_probability_share_a_bin_and_no_bin_is_empty(rows: list[tuple[bool, float]], num_bins: int):
    probability = np.array([p for _, p in rows])
    curve = reliability_curve([yes for yes, _ in rows], probability, num_bins)
    assert (curve.count > 0).all()
    assert curve.count.sum() == len(rows)
    assert len(curve.count) <= min(num_bins, len(set(probability)))
    bins = equal_mass_bins(probability, num_bins)
    assert len({*zip(bins, probability, strict=True)}) == len(set(probability))


def test_a_curve_of_no_rows_is_empty():
    curve = reliability_curve([], [])
    assert len(curve.predicted) == len(curve.observed) == len(curve.count) == 0
    assert math.isnan(curve.error)


def test_a_confusion_matrix_has_two_rows_even_for_one_answer():
    assert count_confusion([True, True], [True, False]).tolist() == [[0, 0], [1, 1]]


def test_rows_of_the_confusion_matrix_are_what_is_right():
    assert count_confusion([False, False, True], [True, False, True]).tolist() == [[1, 1], [0, 1]]
