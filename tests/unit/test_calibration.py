import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from pii_finetune.calibration import IDENTITY, TEMPERATURE_BOUNDS, Calibration, fit_calibration
from pii_finetune.config import CalibrationConfig
from pii_finetune.errors import BadCalibrationError, UserError

AUTO = CalibrationConfig()
TEMPERATURE = CalibrationConfig(method="temperature")
ISOTONIC = CalibrationConfig(method="isotonic")
MARGINS = st.floats(-1e6, 1e6)


def simulate(num_rows: int, temperature: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Margins that are `temperature` times too large, and the answers."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 3, num_rows)
    return true * temperature, rng.random(num_rows) < expit(true)


def fit(margin: np.ndarray, expected: np.ndarray, config: CalibrationConfig = AUTO, seed: int = 0) -> Calibration:
    return fit_calibration(margin, expected, np.arange(len(margin)), config, seed)


def log_loss(probability: np.ndarray, expected: np.ndarray) -> float:
    return -float(np.mean(np.log(np.where(expected, probability, 1 - probability))))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 8.0])
def test_the_temperature_of_simulated_margins_is_found(temperature: float):
    found = fit(*simulate(5000, temperature, seed=1), TEMPERATURE)
    assert found.temperature == pytest.approx(temperature, rel=0.1)


def test_temperature_wins_where_margins_are_only_too_large():
    assert [fit(*simulate(600, 2.5, seed)).method for seed in range(4)] == ["temperature"] * 4


def staircase(num_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Margins whose link is not logistic: 0.3 and 0.9, with a step at 2."""
    rng = np.random.default_rng(seed)
    margin = rng.uniform(-6, 6, num_rows)
    return margin, rng.random(num_rows) < np.where(margin > 2, 0.9, 0.3)


def test_isotonic_wins_where_the_link_is_not_logistic_and_is_better_on_fresh_rows():
    fitted = fit(*staircase(600, seed=0))
    assert fitted.method == "isotonic"
    margin, expected = staircase(5000, seed=1)
    other = fit(*staircase(600, seed=0), TEMPERATURE)
    assert log_loss(fitted.probability(margin), expected) < log_loss(other.probability(margin), expected) - 0.02


def test_the_limit_of_an_isotonic_answer_is_where_its_probability_is_one_half():
    decided = fit(*staircase(600, seed=0)).probability(np.array([0.5, 1.0, 3.0]))
    assert (decided >= 0.5).tolist() == [False, False, True]


def test_isotonic_is_not_tried_on_few_labels_however_many_rows_they_have():
    margin, expected = staircase(600, seed=0)
    fitted = fit_calibration(margin, expected, np.arange(600) // 20, AUTO, 0)
    assert fitted.method == "temperature"
    assert "fewer than 50 labels" in fitted.note


def test_the_rows_of_a_group_are_not_learnt_from_and_tested_on_at_once():
    groups = np.repeat(np.arange(200), 8)
    margin, expected = (each[groups] for each in simulate(200, 2.5, seed=0))
    assert fit_calibration(margin, expected, groups, AUTO, 0).method == "temperature"
    assert fit(margin, expected).method == "isotonic"  # taken for independent, the steps look right


@pytest.mark.parametrize("config", [TEMPERATURE, ISOTONIC])
@pytest.mark.parametrize("size", [40.0, 1e-6], ids=["saturated", "next to nothing"])
def test_margins_that_separate_the_answers_do_not_become_certainties(config: CalibrationConfig, size: float):
    expected = np.arange(300) % 3 == 0
    fitted = fit(np.where(expected, size, -size), expected, config)
    assert TEMPERATURE_BOUNDS[0] * 0.999 <= fitted.temperature <= TEMPERATURE_BOUNDS[1]
    low, high = fitted.probability(np.array([-size, size]))
    # 100 yes and 200 no, Platt: on average as sure as 101/102 and 201/202, and Laplace at most 301/302
    assert 1 / 302 <= low <= 0.5 <= high <= 1 - 1 / 302
    assert config == ISOTONIC or size < 1 or high == pytest.approx((101 / 102 + 2 * 201 / 202) / 3, abs=1e-4)


def test_one_answer_alone_leaves_probabilities_as_they_are_and_says_so():
    for expected in (np.ones(200, dtype=bool), np.zeros(200, dtype=bool), np.zeros(0, dtype=bool)):
        fitted = fit(np.linspace(-40, 40, len(expected)), expected)
        assert fitted.method == "none"
        assert "both answers" in fitted.describe()


def test_none_leaves_probabilities_as_they_are():
    margin, expected = simulate(300, 3.0, seed=0)
    fitted = fit(margin, expected, CalibrationConfig(method="none"))
    np.testing.assert_array_equal(fitted.probability(margin), expit(margin))
    np.testing.assert_array_equal(IDENTITY.probability(margin), expit(margin))


def test_calibrated_probabilities_come_true():
    margin, expected = simulate(4000, 4.0, seed=2)
    probability = fit(*simulate(600, 4.0, seed=1)).probability(margin)
    for low, high in ((0.05, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 0.95)):
        rows = (probability >= low) & (probability < high)
        assert expected[rows].mean() == pytest.approx(probability[rows].mean(), abs=0.06)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.floats(-60, 60), st.booleans()), min_size=2, max_size=40),
    st.lists(MARGINS, min_size=2, max_size=40),
    st.sampled_from([TEMPERATURE, ISOTONIC]),
)
def test_a_larger_margin_never_has_a_smaller_probability(rows, asked: list[float], config: CalibrationConfig):
    margin, expected = np.array([each for each, _ in rows]), np.array([each for _, each in rows])
    fitted = fit(margin, expected, config)
    between = np.nextafter(margin, -math.inf), margin, np.nextafter(margin, math.inf)
    probability = fitted.probability(np.sort(np.concatenate([asked, *between])))
    assert np.all(np.diff(probability) >= 0)
    assert np.all((probability >= 0) & (probability <= 1))
    if fitted.method == "isotonic":
        assert probability.min() >= 1 / (len(rows) + 2)
        assert probability.max() <= 1 - 1 / (len(rows) + 2)


def test_a_rounding_error_does_not_lift_a_probability_above_that_of_a_larger_margin():
    line = Calibration("isotonic", knots=((-4.68, 0.44), (0.78, 0.93)))  # np.interp gives 0.9300000000000002
    assert line.probability(np.array([np.nextafter(0.78, -1), 0.78])).tolist() == [0.93, 0.93]


@pytest.mark.parametrize("method", ["auto", "temperature", "isotonic", "none"])
@pytest.mark.parametrize("precision", [None, 0.9])
def test_a_calibration_survives_json_to_the_last_bit(method, precision: float | None):
    margin, expected = staircase(400, seed=3)
    fitted = fit(margin, expected, CalibrationConfig(method=method, review_precision=precision))
    read = Calibration.from_dict(json.loads(json.dumps(fitted.to_dict(), allow_nan=False)))
    assert read == fitted
    np.testing.assert_array_equal(read.probability(margin), fitted.probability(margin))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0}, "temperature: .* greater than 0"),
        ({"temperature": math.nan}, "temperature: .* finite"),
        ({"method": "beta"}, "method: .*'isotonic'"),
        ({"colour": "red"}, "colour: Unexpected"),
        ({"review_low": 0.7}, "review_low"),
        ({"review_high": 0.3}, "review_high"),
        ({"knots": [[0, 0.1], [1, 0.9]]}, "knots: isotonic regression has them, and no other method"),
        ({"method": "isotonic"}, "knots: isotonic regression has them, and no other method"),
        ({"method": "isotonic", "knots": [[0, 0.9], [1, 0.1]]}, "must rise together"),
        ({"method": "isotonic", "knots": [[1, 0.1], [0, 0.9]]}, "must rise together"),
        ({"method": "isotonic", "knots": [[0, 1.1]]}, r"knots\.0\.1"),
        ({"method": "isotonic", "knots": [[0, math.inf]]}, r"knots\.0\.1"),
        ({"method": "isotonic", "knots": [[0]]}, r"knots\.0\.1: Field required"),
    ],
)
def test_a_broken_calibration_is_refused_with_the_place(change: dict, message: str):
    with pytest.raises(BadCalibrationError, match=message):
        Calibration.from_dict(IDENTITY.to_dict() | change)


def test_half_a_calibration_is_refused_with_what_is_missing():
    values = fit(*simulate(300, 3.0, seed=0)).to_dict()
    del values["temperature"]
    with pytest.raises(UserError, match=r"temperature is missing.*calibration\.json that was written with the model"):
        Calibration.from_dict(values)


def test_without_a_band_every_answer_stands():
    assert IDENTITY.decide(np.array([0.0, 0.4999, 0.5, 1.0])).tolist() == ["no", "no", "yes", "yes"]
    assert not IDENTITY.has_review_band


def test_what_is_between_goes_to_review_and_so_does_what_is_not_a_number():
    banded = Calibration(review_precision=0.9, review_low=0.2, review_high=0.8)
    decided = banded.decide(np.array([0.0, 0.1999, 0.2, 0.5, 0.7999, 0.8, 1.0, math.nan]))
    assert decided.tolist() == ["no", "no", "review", "review", "review", "yes", "yes", "review"]
    assert banded.has_review_band


def test_a_side_that_cannot_be_sure_is_left_to_people_with_a_note():
    margin, expected = simulate(60, 1.0, seed=0)
    fitted = fit(margin, expected, CalibrationConfig(review_precision=0.99))
    assert set(fitted.decide(fitted.probability(np.linspace(-500, 500, 99)))) == {"review"}
    assert "every answer goes to a person" in fitted.describe()
    assert "to be sure of any yes or no" in fitted.note


def test_the_precision_promised_holds_on_fresh_rows():
    """The bound is of 95 %: of bands chosen on other validation rows, about one in twenty may promise too much."""
    fresh, answers = simulate(20_000, 2.0, seed=999)
    config, broken, used = CalibrationConfig(method="temperature", review_precision=0.95), 0, 0
    for seed in range(100):
        fitted = fit(*simulate(800, 2.0, seed), config)
        decided = fitted.decide(fitted.probability(fresh))
        for answer, right in (("yes", answers), ("no", ~answers)):
            if np.any(decided == answer):
                broken += right[decided == answer].mean() < 0.95
                used += 1
    assert used > 150
    assert broken / used < 0.09


def test_the_same_rows_in_another_order_have_the_same_calibration():
    margin, expected = staircase(400, seed=4)
    order = np.random.default_rng(0).permutation(400)
    one, other = fit(margin, expected, ISOTONIC), fit(margin[order], expected[order], ISOTONIC)
    np.testing.assert_allclose(one.probability(margin), other.probability(margin))


@pytest.mark.parametrize(
    ("calibration", "said"),
    [
        (IDENTITY, "the model's own, not calibrated."),
        (Calibration("temperature", 2.345, num_rows=1234), "(T = 2.35) on 1,234 validation rows."),
        (Calibration("isotonic", knots=((0, 0.1), (1, 0.9)), num_rows=9), "isotonic regression (2 knots) on 9"),
        (Calibration(review_precision=0.95, review_low=0.1, review_high=0.9), "from 0.1 up to 0.9 goes to a person."),
        (Calibration(review_precision=0.95, review_low=0.0, review_high=0.9), "below 0.9 goes to a person."),
        (Calibration(review_precision=0.95, review_low=0.1, review_high=2.0), "not below 0.1 goes to a person."),
        (Calibration(review_precision=0.95), "no answer needs a person."),
    ],
)
def test_a_report_says_in_one_sentence_what_was_done(calibration: Calibration, said: str):
    sentence = calibration.describe()
    assert said in sentence
    assert sentence.endswith(".")
    assert ". " not in sentence
