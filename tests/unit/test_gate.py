import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii_finetune.config import GateConfig
from pii_finetune.gate import decide
from pii_finetune.metrics import Metrics

MINIMUM = GateConfig(minimum_f1=0.8)
SHARE = st.floats(0, 1)


def with_f1(f1: float) -> Metrics:
    return Metrics(accuracy=0.9, precision=0.9, recall=0.9, f1=f1, format_validity=1.0, num_rows=100)


def test_the_first_model_needs_only_the_minimum():
    decision = decide(with_f1(0.8), None, MINIMUM)
    assert decision.promote
    assert decision.reason == "Promoted: F1 0.8000 reaches the minimum 0.8 and there was no model in Production."


def test_a_better_model_is_promoted():
    assert decide(with_f1(0.91), with_f1(0.9), MINIMUM).promote


def test_an_equal_model_keeps_the_old_one_and_says_why():
    decision = decide(with_f1(0.9), with_f1(0.9), MINIMUM)
    assert not decision.promote
    assert "its F1 0.9000 is equal to the 0.9000 of the model in Production" in decision.reason


def test_a_worse_model_keeps_the_old_one_and_says_why():
    decision = decide(with_f1(0.85), with_f1(0.9), MINIMUM)
    assert not decision.promote
    assert "not above the 0.9000 of the model in Production" in decision.reason


def test_a_better_model_below_the_minimum_is_not_promoted():
    decision = decide(with_f1(0.7), with_f1(0.6), MINIMUM)
    assert not decision.promote
    assert decision.reason == "Not promoted: its F1 0.7000 does not reach gate.minimum_f1 = 0.8."


def test_all_reasons_are_told():
    decision = decide(with_f1(0.7), with_f1(0.75), MINIMUM)
    assert [rule.passed for rule in decision.rules] == [False, False]
    assert "gate.minimum_f1" in decision.reason
    assert "model in Production" in decision.reason


@pytest.mark.parametrize("production", [None, with_f1(0.0), with_f1(math.nan)])
def test_nan_never_passes(production: Metrics | None):
    assert not decide(with_f1(math.nan), production, GateConfig(minimum_f1=0)).promote


def test_a_production_model_without_figures_does_not_block():
    assert decide(with_f1(0.9), with_f1(math.nan), MINIMUM).promote


@given(SHARE, SHARE, SHARE)
def test_promoted_is_better_and_reaches_the_minimum(candidate: float, production: float, minimum: float):
    decision = decide(with_f1(candidate), with_f1(production), GateConfig(minimum_f1=minimum))
    assert decision.promote == (candidate > production and candidate >= minimum)
    assert decision.promote == all(rule.passed for rule in decision.rules)
