"""What the deployment's parameters become, and what Prefect shows of a scoring; the engines have tests of their own."""

import logging
from collections import Counter

import pytest

import flows.score
import tasks.score
from pii_finetune.paths import ROOT
from pii_finetune.ray_scoring.cluster import RaySettings
from pii_finetune.score_table import ScoreReport

REPORT = ScoreReport(10, 4, 3, Counter(yes=4, no=6), Counter(), "", ("not read (of no kind that is read): x.txt",))


@pytest.mark.parametrize(
    ("parameters", "settings"),
    [
        ({}, None),
        ({"engine": "ray"}, RaySettings()),
        ({"engine": "ray", "num_workers": 3, "rows_per_part": 8_192}, RaySettings(3, 8_192)),
    ],
)
def test_the_engine_and_its_numbers_are_parameters_of_the_deployment(monkeypatch, parameters, settings):
    asked = []
    monkeypatch.setattr(flows.score, "outlive_readers", lambda: None)
    monkeypatch.setattr(flows.score, "score_labels", lambda *given: asked.append(given) or REPORT)
    assert flows.score.score.fn("in", "out", **parameters) is REPORT
    assert asked == [("in", "out", "models:/pii-dpo/Production", settings)]


def test_progress_and_what_was_left_alone_are_shown_whichever_engine_answers(monkeypatch, caplog):
    shares, asked = [], []

    def answer(source, target, _model, _columns, ray, on_progress):
        asked.extend((source, target, ray))
        on_progress(4, 10)
        on_progress(10, 10)
        return REPORT

    monkeypatch.setattr(tasks.score, "score_source", answer)
    monkeypatch.setattr(tasks.score, "Progress", lambda *_: shares.append)
    monkeypatch.setattr(tasks.score, "leave", lambda *_, **__: None)
    monkeypatch.setattr(tasks.score, "settle", lambda: None)
    monkeypatch.setattr(tasks.score, "get_run_logger", lambda: logging.getLogger("pii_finetune.test"))
    with caplog.at_level(logging.INFO):
        tasks.score.score_labels.fn("in", "s3://user:secret@bucket/out", "models:/pii-dpo/3", RaySettings())
    assert asked == [str(ROOT / "in"), "s3://user:secret@bucket/out", RaySettings()]
    assert shares == [0.4, 1.0]
    assert "not read (of no kind that is read): x.txt" in caplog.text
    assert "s3://bucket/out: 10 labels, 4 of them sensitive" in caplog.text
    assert "secret" not in caplog.text
