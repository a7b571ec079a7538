import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pii_finetune import paired_tests
from pii_finetune.config import GateConfig
from pii_finetune.gate import Evidence, Rule, decide
from pii_finetune.metrics import Metrics, compute_metrics

OPEN = GateConfig(minimum_f1=0, minimum_recall=0, minimum_format_validity=0)
MCNEMAR = OPEN.model_copy(update={"paired_test": "mcnemar"})
LANGUAGES = np.array(["German", "Hindi"])
VETOES = ("minimum_f1", "minimum_recall", "minimum_format_validity")


@pytest.fixture(autouse=True, scope="module")
def _few_resamples():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paired_tests, "NUM_RESAMPLES", 500)
        yield


def model(
    expected: np.ndarray, answered: np.ndarray, groups: np.ndarray | None = None, language: np.ndarray | None = None
) -> Evidence:
    rows = np.arange(len(expected))
    groups = rows if groups is None else groups
    language = LANGUAGES[rows % 2] if language is None else language

    def measured(at: np.ndarray) -> Metrics:
        return compute_metrics(expected[at], answered[at].astype(float), np.ones(at.sum(), dtype=bool))

    by_language = {str(name): measured(language == name) for name in np.unique(language)}
    return Evidence(measured(rows >= 0), expected, answered, groups, by_language)


EXPECTED = np.random.default_rng(0).random(400) < 0.5


def wrong_on(*rows: int | range) -> Evidence:
    """A model that is wrong on these of 400 rows."""
    wrong = np.zeros(400, dtype=bool)
    for each in rows:
        wrong[each] = True
    return model(EXPECTED, EXPECTED ^ wrong)


def with_figures(evidence: Evidence, **figures: float) -> Evidence:
    return dataclasses.replace(evidence, metrics=dataclasses.replace(evidence.metrics, **figures))


def rule(rules: tuple[Rule, ...], name: str) -> Rule:
    return next(each for each in rules if each.name == name)


GOOD, BETTER, WORSE = wrong_on(range(40)), wrong_on(range(20)), wrong_on(range(80))


@st.composite
def comparisons(draw: st.DrawFn) -> tuple[Evidence, Evidence, np.ndarray]:
    """A candidate, production and the rows on which the candidate is right."""
    size, error = draw(st.integers(12, 60)), draw(st.floats(0, 0.6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    expected, candidate, production = (
        rng.random(size) < share for share in (0.5, error * draw(st.floats(0, 1)), error)
    )
    groups = rng.integers(0, max(2, size // draw(st.integers(1, 6))), size)
    pair = model(expected, expected ^ candidate, groups), model(expected, expected ^ production, groups)
    return *pair, np.flatnonzero(~candidate)


configs = st.builds(
    GateConfig,
    minimum_f1=st.floats(0, 1),
    minimum_recall=st.floats(0, 1),
    noninferiority_margin=st.floats(0, 0.5),
    paired_test=st.sampled_from(["bootstrap", "mcnemar"]),
    alpha=st.floats(0.01, 0.4),
    max_language_regression=st.floats(0, 1),
    min_language_rows=st.integers(1, 30),
    baselines=st.sampled_from(["warn", "veto"]),
)


def test_the_first_model_is_not_compared_with_production():
    decision = decide(GOOD, None, {}, GateConfig(minimum_f1=0.8))
    assert decision.promote
    assert [each.name for each in decision.rules] == ["minimum F1", "minimum recall", "minimum format validity"]
    assert decision.reason == (
        f"Promoted: its F1 {GOOD.metrics.f1:.4f} reaches the minimum 0.8, and there was no model in Production."
    )


def test_a_better_model_is_promoted_and_the_sentence_has_both_figures():
    decision = decide(BETTER, GOOD, {}, OPEN)
    assert decision.promote
    assert f"{BETTER.metrics.f1:.4f} is above the {GOOD.metrics.f1:.4f}" in decision.reason


def test_an_equal_model_is_not_promoted_and_is_said_to_be_equal():
    decision = decide(GOOD, GOOD, {}, OPEN)
    assert not decision.promote
    assert [each.name for each in decision.rules if not each.passed] == ["better than Production"]
    assert f"is equal to the {GOOD.metrics.f1:.4f} of the model in Production" in decision.reason


@pytest.mark.parametrize("config", [OPEN, MCNEMAR], ids=["bootstrap", "mcnemar"])
def test_a_worse_model_is_not_promoted(config: GateConfig):
    decision = decide(WORSE, GOOD, {}, config)
    assert not decision.promote
    assert {"better than Production", "not worse than Production"} <= {r.name for r in decision.rules if not r.passed}


@pytest.mark.parametrize("name", VETOES)
def test_each_minimum_refuses_alone_and_names_its_setting(name: str):
    figure = name.removeprefix("minimum_")
    config = OPEN.model_copy(update={name: 0.9})
    assert decide(with_figures(GOOD, **{figure: 0.9}), None, {}, config).promote
    decision = decide(with_figures(GOOD, **{figure: 0.8999}), None, {}, config)
    assert not decision.promote
    assert f"gate.{name}" in decision.reason
    assert [each.passed for each in decision.rules].count(False) == 1


def test_a_lucky_gain_on_few_rows_is_not_enough():
    few, luckier = np.arange(40), wrong_on(*range(10, 16))
    production, candidate = (
        model(EXPECTED[few], each.answered[few]) for each in (wrong_on(*range(3), *range(4, 8)), luckier)
    )
    decision = decide(candidate, production, {}, OPEN)
    assert candidate.metrics.f1 > production.metrics.f1
    assert not decision.promote
    assert "gate.noninferiority_margin" in decision.reason
    wide = OPEN.model_copy(update={"noninferiority_margin": 0.5})
    assert decide(candidate, production, {}, wide).promote


def test_fewer_rows_of_the_same_kind_make_the_bound_lower():
    bounds = []
    for copies in (1, 8):
        at = np.tile(np.arange(100), copies)
        pair = [
            model(EXPECTED[at], each.answered[at])
            for each in (wrong_on(range(5), range(20, 25)), wrong_on(range(5, 16)))
        ]
        bounds.append(rule(decide(*pair, {}, OPEN).rules, "not worse than Production").value)
    assert bounds[0] < bounds[1] - 0.02


def test_one_language_that_regresses_refuses_a_better_model_and_is_named():
    before = wrong_on(range(0, 100, 2))  # all in German
    after = wrong_on(range(1, 41, 2))  # all in Hindi
    assert after.metrics.f1 > before.metrics.f1
    config = OPEN.model_copy(update={"max_language_regression": 0.05, "min_language_rows": 200})
    decision = decide(after, before, {}, config)
    assert not decision.promote
    assert rule(decision.rules, "no language regresses").value == pytest.approx(after.by_language["Hindi"].f1 - 1)
    assert "in Hindi (" in decision.reason
    assert "German" not in decision.reason


def test_a_language_with_few_rows_is_listed_and_not_judged():
    config = OPEN.model_copy(update={"max_language_regression": 0.05, "min_language_rows": 201})
    decision = decide(wrong_on(range(1, 41, 2)), wrong_on(range(0, 100, 2)), {}, config)
    assert decision.promote
    explanation = rule(decision.rules, "no language regresses").explanation
    assert "not judged, with fewer than 201 rows: German 200, Hindi 200" in explanation


def test_a_baseline_that_is_not_beaten_is_told_or_refuses_as_configured():
    warned = decide(GOOD, None, {"ngram": GOOD, "rules": WORSE}, OPEN)
    assert warned.promote
    assert "although its F1" in warned.reason
    assert "not above the" in warned.reason
    assert "ngram" in warned.reason
    assert "rules" not in warned.reason
    refused = decide(GOOD, None, {"ngram": GOOD, "rules": WORSE}, OPEN.model_copy(update={"baselines": "veto"}))
    assert not refused.promote
    assert decide(BETTER, None, {"ngram": GOOD}, OPEN.model_copy(update={"baselines": "veto"})).promote


def test_all_reasons_are_told():
    config = GateConfig(minimum_f1=0.99, minimum_recall=0.99)
    reason = decide(WORSE, GOOD, {}, config).reason
    assert all(name in reason for name in ("gate.minimum_f1", "gate.minimum_recall", "Production"))


@given(comparisons(), configs)
@settings(deadline=None, max_examples=40)
def test_every_reason_is_one_sentence_and_so_is_every_explanation(pair, config: GateConfig):
    decision = decide(pair[0], pair[1], {"ngram": pair[1]}, config)
    for text in (decision.reason, *(each.explanation for each in decision.rules)):
        assert text[0].isupper()
        assert text.endswith(".")
        assert ". " not in text


@given(comparisons(), configs)
@settings(deadline=None, max_examples=60)
def test_a_model_is_promoted_exactly_if_it_passes_every_veto(pair, config: GateConfig):
    decision = decide(pair[0], pair[1], {"ngram": pair[1]}, config)
    assert decision.promote == all(each.passed for each in decision.rules if each.severity == "veto")
    assert not decision.promote or pair[0].metrics.f1 > pair[1].metrics.f1


@given(comparisons(), configs)
@settings(deadline=None, max_examples=30)
def test_a_candidate_that_answers_as_production_does_is_never_promoted(pair, config: GateConfig):
    assert not decide(pair[0], pair[0], {}, config).promote


@given(comparisons(), configs, st.data())
@settings(deadline=None, max_examples=150)
def test_one_more_wrong_answer_never_turns_a_refusal_into_a_promotion(pair, config: GateConfig, data: st.DataObject):
    candidate, production, right = pair
    if len(right) == 0 or decide(candidate, production, {}, config).promote:
        return
    answered = candidate.answered.copy()
    answered[data.draw(st.sampled_from(right.tolist()))] ^= True
    assert not decide(model(candidate.expected, answered, candidate.groups), production, {}, config).promote


@given(comparisons(), configs, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=40)
def test_the_order_of_rows_changes_nothing(pair, config: GateConfig, random):
    order = np.array(random.sample(range(len(pair[0].expected)), len(pair[0].expected)))
    language = LANGUAGES[np.arange(len(order)) % 2]
    shuffled = [
        model(each.expected[order], each.answered[order], each.groups[order], language[order]) for each in pair[:2]
    ]
    assert decide(*shuffled, {}, config) == decide(*pair[:2], {}, config)


@pytest.mark.parametrize("figure", ["f1", "recall", "format_validity"])
@pytest.mark.parametrize("production", [None, WORSE], ids=["first", "second"])
def test_a_figure_that_is_not_a_number_refuses(figure: str, production: Evidence | None):
    assert decide(BETTER, production, {}, OPEN).promote
    assert not decide(with_figures(BETTER, **{figure: math.nan}), production, {}, OPEN).promote


def test_production_or_a_language_without_a_figure_refuses():
    assert not decide(BETTER, with_figures(WORSE, f1=math.nan), {}, OPEN).promote
    broken = dict(BETTER.by_language, Hindi=dataclasses.replace(BETTER.by_language["Hindi"], f1=math.nan))
    decision = decide(dataclasses.replace(BETTER, by_language=broken), WORSE, {}, OPEN)
    assert not decision.promote
    assert "Hindi (+nan)" in decision.reason


def test_no_rows_at_all_refuse_whatever_is_asked():
    none = model(np.zeros(0, dtype=bool), np.zeros(0, dtype=bool))
    for config in (OPEN, MCNEMAR):
        decision = decide(none, none, {}, config)
        assert not decision.promote
        assert [each.name for each in decision.rules if each.passed] == ["no language regresses"]


def test_models_asked_about_other_rows_are_not_compared():
    with pytest.raises(ValueError, match="only on the same rows"):
        decide(GOOD, model(~EXPECTED, EXPECTED), {}, OPEN)
