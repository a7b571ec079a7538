import numpy as np
import pytest

from pii_finetune.calibration import Calibration
from pii_finetune.evaluation import EvaluationReport, evaluate
from pii_finetune.records import Record
from pii_finetune.scores import Question, Scores

TEST = [
    Record("first name", "English", True, 2, "identity"),
    Record("color", "English", False, 3, "product"),
    Record("nom", "French", True, 4, "identity"),
    Record("couleur", "French", False, 5),
]
UNSEEN = [Record("church year", "English", False, 2), Record("salary", "English", True, 3)]
KNOWN = {"first name", "nom", "church year"}


def by_rote(questions: list[Question]) -> Scores:
    return Scores(np.array([2.0 if label in KNOWN else -2.0 for label, _ in questions]), np.ones(len(questions), bool))


def in_english_only(questions: list[Question]) -> Scores:
    english = np.array([language == "English" for _, language in questions])
    return Scores(np.where(english, by_rote(questions).margin, 0.0), english)


@pytest.fixture
def report() -> EvaluationReport:
    return evaluate({"sft": by_rote, "dpo": in_english_only}, TEST, UNSEEN, lambda _: None)


def test_every_model_is_measured_on_test_and_on_unseen_rows_apart(report: EvaluationReport):
    assert report.test["sft"].accuracy == 1.0
    assert report.unseen["sft"].accuracy == 0.0
    assert (report.test["dpo"].num_rows, report.unseen["dpo"].num_rows) == (4, 2)


def test_format_validity_is_a_figure_of_its_own(report: EvaluationReport):
    assert report.test["dpo"].format_validity == 0.5
    assert report.test["dpo"].recall == 1.0


def test_every_language_of_the_test_split_is_measured(report: EvaluationReport):
    assert {name: m.accuracy for name, m in report.by_language["dpo"].items()} == {"English": 1.0, "French": 0.5}


def test_every_prediction_is_kept_with_its_row(report: EvaluationReport):
    last = report.predictions.iloc[-1].to_dict()
    assert len(report.predictions) == 6
    assert (last["slice"], last["row"], last["label"], last["expected"]) == ("unseen", 3, "salary", "yes")
    assert (last["sft_answer"], last["sft_probability"], last["sft_valid"]) == (
        "no",
        pytest.approx(0.1192, abs=1e-4),
        True,
    )


def test_a_probability_of_a_half_is_a_yes():
    assert Scores(np.array([0.0, -0.04]), np.ones(2, bool)).answers.tolist() == [True, False]


def test_the_summary_has_a_line_a_model_in_the_order_given(report: EvaluationReport):
    assert [row["model"] for row in report.summary_rows()] == ["sft", "dpo"]
    assert report.summary_rows()[0] == {
        "model": "sft",
        "accuracy": 1.0,
        "precision": 1.0,
        "recall": 1.0,
        "f1": 1.0,
        "auroc": 1.0,
        "ece": pytest.approx(0.1192, abs=1e-4),
        "format_validity": 1.0,
        "unseen_accuracy": 0.0,
    }


def test_progress_rises_to_the_whole():
    shares: list[float] = []
    evaluate({"sft": by_rote, "dpo": by_rote}, TEST, UNSEEN, shares.append)
    assert shares == [0.5, 1.0]


def test_without_unseen_concepts_nothing_is_said_of_them():
    report = evaluate({"sft": by_rote}, TEST, [], lambda _: None)
    assert report.unseen == {}
    assert "unseen_accuracy" not in report.summary_rows()[0]


def test_categories_are_measured_where_the_workbook_names_them(report: EvaluationReport):
    assert {name: m.num_rows for name, m in report.by_category["sft"].items()} == {"identity": 2, "product": 1}
    bare = [Record(r.label, r.language, r.sensitive, r.row) for r in TEST]
    assert evaluate({"sft": by_rote}, bare, [], lambda _: None).by_category == {}


def test_a_calibration_changes_probabilities_and_not_the_margins_behind_them():
    sharper = Calibration(method="temperature", temperature=0.5)
    rows = evaluate({"sft": by_rote}, TEST, [], lambda _: None, {"sft": sharper}).predictions
    assert rows["sft_margin"].tolist() == [2.0, -2.0, 2.0, -2.0]
    assert rows["sft_probability"].tolist() == pytest.approx([0.982, 0.018, 0.982, 0.018], abs=1e-3)


def test_only_the_models_asked_for_are_asked_in_other_ways_of_writing():
    flips = evaluate({"sft": by_rote, "dpo": by_rote}, TEST, [], lambda _: None, perturbed=["dpo"]).flips
    assert list(flips) == ["dpo"]
    assert flips["dpo"]["case"].share > 0  # by rote means that FIRST NAME is another label than first name


def test_the_gate_gets_answers_and_groups_of_the_test_rows_alone(report: EvaluationReport):
    evidence = report.evidence("dpo")
    assert evidence.expected.tolist() == [True, False, True, False]
    assert evidence.answered.tolist() == [True, False, True, True]
    assert len(set(evidence.groups.tolist())) == 4
    assert evidence.metrics == report.test["dpo"]
