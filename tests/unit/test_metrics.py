import math

import numpy as np
import pytest

from pii_finetune.metrics import compute_metrics, count_confusion


def test_the_figures_are_those_of_their_definitions():
    expected = [True, True, True, False, False]
    answered = [True, True, False, True, False]
    metrics = compute_metrics(expected, answered, [True, True, True, True, False])
    assert metrics.accuracy == pytest.approx(3 / 5)
    assert metrics.precision == metrics.recall == metrics.f1 == pytest.approx(2 / 3)
    assert metrics.format_validity == pytest.approx(4 / 5)
    assert metrics.num_rows == 5


def test_sensitive_is_the_positive_class():
    metrics = compute_metrics([True, False, False, False], [True, True, True, True], [True] * 4)
    assert (metrics.recall, metrics.precision) == (1.0, 0.25)


def test_what_is_undefined_counts_as_zero_without_a_warning(recwarn: pytest.WarningsRecorder):
    metrics = compute_metrics([True, True], [False, False], [True, True])
    assert (metrics.precision, metrics.recall, metrics.f1) == (0.0, 0.0, 0.0)
    assert not recwarn.list


def test_no_rows_have_no_figures_rather_than_good_ones():
    metrics = compute_metrics([], [], [])
    assert metrics.num_rows == 0
    assert all(math.isnan(value) for name, value in metrics.as_dict().items() if name != "num_rows")


def test_figures_are_plain_floats_that_json_and_mlflow_take():
    metrics = compute_metrics(np.array([True]), np.array([True]), np.array([True]))
    assert {type(value) for name, value in metrics.as_dict().items() if name != "num_rows"} == {float}


def test_a_confusion_matrix_has_two_rows_even_for_one_answer():
    assert count_confusion([True, True], [True, False]).tolist() == [[0, 0], [1, 1]]


def test_rows_of_the_confusion_matrix_are_what_is_right():
    assert count_confusion([False, False, True], [True, False, True]).tolist() == [[1, 1], [0, 1]]
