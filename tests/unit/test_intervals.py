import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from pii_finetune.intervals import FIGURES, Interval, _figures, bootstrap_intervals
from pii_finetune.metrics import compute_metrics

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]  # expected, P(yes), group


def draw_rows(rng: np.random.Generator, num_groups: int) -> Rows:
    """Groups of 1 to 7 rows of one answer and nearly one probability, of a model that is well calibrated."""
    sizes = rng.integers(1, 8, num_groups)
    group = np.repeat(np.arange(num_groups), sizes)
    margin = rng.normal(0, 3, num_groups)
    expected = rng.random(num_groups) < expit(margin)
    return expected[group], expit(margin[group] + rng.normal(0, 0.1, len(group))), group


def figures_of(expected: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    metrics = compute_metrics(expected, probability, np.ones(len(expected), bool)).as_dict()
    return {name: metrics[name] for name in FIGURES}


def width(interval: Interval) -> float:
    return interval.high - interval.low


@pytest.fixture(scope="module")
def trials() -> list[tuple[dict[str, Interval], dict[str, Interval]]]:
    """Intervals over groups, and over rows, of 120 samples."""
    rng = np.random.default_rng(0)
    samples = [draw_rows(rng, 200) for _ in range(120)]
    return [
        (
            bootstrap_intervals(expected, probability, group, seed, num_resamples=200),
            bootstrap_intervals(expected, probability, np.arange(len(group)), seed, num_resamples=200),
        )
        for seed, (expected, probability, group) in enumerate(samples)
    ]


@pytest.fixture(scope="module")
def truth() -> dict[str, float]:
    expected, probability, _ = draw_rows(np.random.default_rng(1), 200_000)
    return figures_of(expected, probability)


def coverage(intervals: list[dict[str, Interval]], truth: dict[str, float], name: str) -> float:
    return float(np.mean([each[name].low <= truth[name] <= each[name].high for each in intervals]))


@pytest.mark.parametrize("name", FIGURES)
def test_an_interval_holds_the_true_figure_in_about_95_of_100_samples(trials, truth, name: str):
    assert 0.88 <= coverage([grouped for grouped, _ in trials], truth, name) <= 0.99


@pytest.mark.parametrize("name", FIGURES)
def test_intervals_over_rows_that_are_copies_promise_too_much(trials, truth, name: str):
    by_rows, by_groups = (np.mean([width(each[at][name]) for each in trials]) for at in (1, 0))
    assert by_groups > 1.4 * by_rows
    assert coverage([rows for _, rows in trials], truth, name) <= 0.8


def test_copies_of_every_row_do_not_narrow_an_interval_over_groups():
    expected, probability, _ = draw_rows(np.random.default_rng(2), 40)
    group = np.arange(len(expected))
    once = bootstrap_intervals(expected, probability, group, 0)
    often = bootstrap_intervals(*(np.tile(each, 5) for each in (expected, probability, group)), 0)
    for name in set(FIGURES) - {"ece"}:  # whose bins move a little
        assert (often[name].low, often[name].high) == pytest.approx((once[name].low, once[name].high))


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]), st.integers(0, 3)), min_size=1, max_size=30
    )
)
def test_a_resample_has_the_figures_of_its_rows_written_out(rows: list[tuple[bool, float, int]]):
    values, at = np.unique([p for _, p, _ in rows], return_inverse=True)
    yes, no = np.zeros((1, len(values))), np.zeros((1, len(values)))
    for place, (answer, _, count) in zip(at, rows, strict=True):
        (yes if answer else no)[0, place] += count
    written = [(answer, p) for answer, p, count in rows for _ in range(count)]
    if not written:
        return
    expected, probability = (np.array(column) for column in zip(*written, strict=True))
    right = figures_of(expected, probability)
    for name, figure in _figures(yes, no, values).items():
        assert figure.tolist() == pytest.approx([right[name]], nan_ok=True)


def test_what_was_measured_lies_in_its_interval():
    expected, probability, group = draw_rows(np.random.default_rng(3), 300)
    intervals = bootstrap_intervals(expected, probability, group, 0)
    assert tuple(intervals) == FIGURES
    for name, value in figures_of(expected, probability).items():
        assert intervals[name].low <= value <= intervals[name].high


def test_the_same_seed_gives_the_same_intervals_whatever_the_order_of_rows():
    expected, probability, group = draw_rows(np.random.default_rng(4), 50)
    order = np.random.default_rng(5).permutation(len(group))
    first = bootstrap_intervals(expected, probability, group, 0)
    again = bootstrap_intervals(expected[order], probability[order], group[order], 0)
    for name in FIGURES:
        assert (first[name].low, first[name].high) == pytest.approx((again[name].low, again[name].high))
    assert first != bootstrap_intervals(expected, probability, group, 1)


def test_intervals_do_not_depend_on_how_many_resamples_are_made_at_once(monkeypatch: pytest.MonkeyPatch):
    expected, probability, group = draw_rows(np.random.default_rng(7), 30)
    whole = bootstrap_intervals(expected, probability, group, 0, 50)
    monkeypatch.setattr("pii_finetune.intervals._CELLS_AT_ONCE", 1)
    parts = bootstrap_intervals(expected, probability, group, 0, 50)
    for name in FIGURES:
        assert (parts[name].low, parts[name].high) == pytest.approx((whole[name].low, whole[name].high))


def test_a_wider_level_gives_a_wider_interval():
    expected, probability, group = draw_rows(np.random.default_rng(8), 60)
    narrow, wide = (bootstrap_intervals(expected, probability, group, 0, level=level) for level in (0.5, 0.99))
    assert all(width(narrow[name]) < width(wide[name]) for name in FIGURES)


def test_rows_of_one_answer_have_no_interval_of_their_order_and_no_warning(recwarn: pytest.WarningsRecorder):
    intervals = bootstrap_intervals([True] * 20, np.linspace(0.1, 0.9, 20), [str(at) for at in range(20)], 0)
    assert math.isnan(intervals["auroc"].low)
    assert math.isnan(intervals["average_precision"].high)
    assert 0 < intervals["recall"].low < intervals["recall"].high < 1
    assert not recwarn.list


def test_a_miscalibrated_model_is_told_from_a_calibrated_one():
    expected, probability, group = draw_rows(np.random.default_rng(10), 300)
    too_sure = expit(3 * np.log(probability / (1 - probability)))
    calibrated, overconfident = (bootstrap_intervals(expected, p, group, 0)["ece"] for p in (probability, too_sure))
    assert calibrated.low == 0
    assert overconfident.low > 0.02


def test_no_rows_have_intervals_that_are_not_numbers():
    intervals = bootstrap_intervals([], [], [], 0)
    assert tuple(intervals) == FIGURES
    assert all(math.isnan(each.low) and math.isnan(each.high) for each in intervals.values())


def test_1500_rows_take_at_most_seconds():
    expected, probability, group = draw_rows(np.random.default_rng(9), 375)
    started = time.process_time()
    bootstrap_intervals(expected, probability, group, 0)
    assert time.process_time() - started < 5  # 0.3 s on an idle core
