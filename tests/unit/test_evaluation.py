import numpy as np
import pytest

from pii_finetune.evaluation import EvaluationReport, evaluate
from pii_finetune.records import Record
from pii_finetune.scoring import Question, Scores

TEST = [
    Record("first name", "English", True, 2),
    Record("color", "English", False, 3),
    Record("nom", "French", True, 4),
    Record("couleur", "French", False, 5),
]
UNSEEN = [Record("church year", "English", False, 2), Record("salary", "English", True, 3)]
KNOWN = {"first name", "nom", "church year"}


def by_rote(questions: list[Question]) -> Scores:
    return Scores(np.array([0.9 if label in KNOWN else 0.1 for label, _ in questions]), np.ones(len(questions), bool))


def in_english_only(questions: list[Question]) -> Scores:
    english = np.array([language == "English" for _, language in questions])
    return Scores(np.where(english, by_rote(questions).probability, 0.5), english)


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
    assert (last["sft_answer"], last["sft_probability"], last["sft_valid"]) == ("no", 0.1, True)


def test_a_probability_of_a_half_is_a_yes():
    assert Scores(np.array([0.5, 0.49]), np.ones(2, bool)).answers.tolist() == [True, False]


def test_the_summary_has_a_line_a_model_in_the_order_given(report: EvaluationReport):
    assert [row["model"] for row in report.summary_rows()] == ["sft", "dpo"]
    assert report.summary_rows()[0] == {
        "model": "sft",
        "accuracy": 1.0,
        "precision": 1.0,
        "recall": 1.0,
        "f1": 1.0,
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
