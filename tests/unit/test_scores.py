import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pii_finetune.scores import Scores


def scores(*margin: float) -> Scores:
    return Scores(np.array(margin), np.ones(len(margin), dtype=bool))


def test_a_margin_of_nothing_is_a_half_and_a_yes():
    assert scores(0.0).probability.tolist() == [0.5]
    assert scores(0.0, -1e-9).answers.tolist() == [True, False]


@given(arrays(float, st.integers(1, 20), elements=st.floats(-1e6, 1e6)))
def test_a_probability_is_between_0_and_1_and_rises_with_the_margin(margin: np.ndarray):
    margin.sort()
    probability = Scores(margin, np.ones(len(margin), dtype=bool)).probability
    assert ((probability >= 0) & (probability <= 1)).all()
    assert (np.diff(probability) >= 0).all()


@given(st.floats(-30, 30))
def test_a_margin_is_the_log_odds_of_its_probability(margin: float):
    (probability,) = scores(margin).probability
    assert np.log(probability) - np.log1p(-probability) == pytest.approx(margin, abs=1e-2 if margin > 20 else 1e-6)


def test_a_very_sure_model_stays_within_bounds_without_a_warning(recwarn: pytest.WarningsRecorder):
    assert scores(-1e4, 1e4).probability.tolist() == [0.0, 1.0]
    assert not recwarn.list
