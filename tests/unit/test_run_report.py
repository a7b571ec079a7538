import re
from dataclasses import replace

import numpy as np
import pytest

from pii_finetune.calibration import IDENTITY
from pii_finetune.evaluation import EvaluationReport, evaluate
from pii_finetune.gate import decide
from pii_finetune.profiles import embedded
from pii_finetune.records import Record
from pii_finetune.run_report import RunFacts, render_run_report
from pii_finetune.scores import Question, Scores

EVIL = '<script>alert("x")</script>'
ROWS = [Record(f"label {at}", ("English", "French")[at % 2], at % 4 < 2, at + 2, "kind") for at in range(40)]


def model(wrong: set[int]):
    def ask(questions: list[Question]) -> Scores:
        right = {record.label: record.sensitive for record in [*ROWS, Record(EVIL, "English", True, 99)]}
        flips = np.array([label.split()[-1] in {str(at) for at in wrong} or label == EVIL for label, _ in questions])
        sensitive = np.array([right.get(label, False) for label, _ in questions])
        return Scores(np.where(sensitive ^ flips, 3.0, -3.0), np.ones(len(questions), bool))

    return ask


def page(changed: dict[str, str] | None = None, **models: set[int]) -> str:
    rows = [*ROWS, Record(EVIL, "English", True, 99)]
    report = evaluate({name: model(wrong) for name, wrong in models.items()}, rows, ROWS[:10], lambda _: None)
    return render_run_report(facts(report, changed or {}))


def facts(report: EvaluationReport, changed: dict[str, str]) -> RunFacts:
    production = report.evidence("production") if "production" in report.test else None
    decision = decide(report.evidence("dpo"), production, {}, embedded().gate)
    return RunFacts(
        f"pii-dpo from {EVIL}", decision, report, IDENTITY, {"workbook": EVIL}, {"code": "abc"}, {"seed": "1"}, changed
    )


def test_the_first_screen_says_the_decision_and_three_figures_of_a_hundred():
    shown = page(dpo={0, 2}, production={0, 1, 2, 3})
    assert "This model passed and goes into production." in shown
    cards = re.findall(r'<div class="card"><b>(\d+)</b>.*?<p>(.*?)</p>', shown)
    assert [what for _, what in cards] == [
        "sensitive labels are found; 10 are missed",
        "labels that it calls sensitive are sensitive; 5 are false alarms",
        "labels of things it never met are answered rightly",
    ]
    assert cards[0][0] == "90"  # 19 of 21: row 0 and the last are missed
    assert "the model before: 86" in shown


def test_what_is_not_found_and_what_is_a_false_alarm_is_said_in_numbers():
    shown = page(dpo={0, 2, 3})
    assert "sensitive labels are found; 10 are missed" in shown
    assert "labels that it calls sensitive are sensitive; 10 are false alarms" in shown


def test_every_word_of_the_trade_in_the_table_of_models_is_explained():
    shown = page(dpo={0}, production={1})
    words = re.search(r"<dl>(.*?)</dl>", shown, re.DOTALL)
    header = re.search(r"<tr><th>model</th>(.*?)</tr>", shown)
    assert words is not None
    assert header is not None
    for name in re.findall(r">([^<>]+(?:<br>[^<>]+)?)</th>", header[1]):
        assert name.replace("<br>", " ") in words[1]
    assert "Production before" in words[1]


def test_data_that_changed_while_the_run_went_is_told():
    rows = [*ROWS, Record(EVIL, "English", True, 99)]
    report = evaluate({"dpo": model({0})}, rows, ROWS[:10], lambda _: None)
    told = "The data changed while this run went."
    assert told in render_run_report(replace(facts(report, {}), data_is_newest=False))
    assert told not in render_run_report(facts(report, {}))


def test_a_refusal_is_told_with_the_rule_that_refused():
    shown = page(dpo={0, 1, 2}, production={0})
    assert "This model does not go into production." in shown
    assert re.search(r"✗ refused</td><td>better than Production", shown)


def test_what_the_model_before_had_right_is_listed():
    shown = page(dpo={0, 1}, production={1, 2, 3, 4})
    assert "3 are answered rightly that the model before had wrong, and 1 wrongly that it had right" in shown


def test_nothing_from_outside_becomes_markup_and_nothing_is_fetched():
    shown = page(dpo={0})
    assert EVIL not in shown
    assert "&lt;script&gt;" in shown
    assert not re.search(r'(?:src|href)="(?!#)', shown)


@pytest.mark.parametrize(("share", "told"), [(0.0, "0"), (0.004, "1"), (0.996, "99"), (1.0, "100"), (0.5, "50")])
def test_all_and_none_are_said_only_where_it_is_all_or_none(share: float, told: str):
    from pii_finetune.run_report import _per_hundred

    assert _per_hundred(share) == told


def test_the_first_model_is_compared_with_none():
    assert "What changes for those who use it" not in page(dpo=set())


def test_rules_that_were_loosened_for_a_run_are_told_beside_its_decision():
    shown = page({"gate.minimum_recall": "0.1 (profile embedded: 0.8)"}, dpo=set())
    assert "set otherwise for this run than usual" in shown
    assert "<code>gate.minimum_recall = 0.1 (profile embedded: 0.8)</code>." in shown
    assert "set otherwise" not in page(dpo=set())
