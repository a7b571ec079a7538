import numpy as np
import pytest

from pii_finetune.scores import Scores


def test_the_probability_is_the_logistic_function_of_the_margin():
    scores = Scores(np.array([0.0, np.log(9), -np.log(9)]), np.ones(3, bool))
    assert scores.probability.tolist() == pytest.approx([0.5, 0.9, 0.1])


def test_a_margin_of_zero_is_a_yes():
    assert Scores(np.array([0.0, -1e-9, 3.0]), np.ones(3, bool)).answers.tolist() == [True, False, True]


def test_a_very_sure_model_stays_within_bounds_without_a_warning(recwarn: pytest.WarningsRecorder):
    assert Scores(np.array([-1e4, 1e4]), np.ones(2, bool)).probability.tolist() == [0.0, 1.0]
    assert not recwarn.list
