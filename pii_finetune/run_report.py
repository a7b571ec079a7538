"""One page on a run: whether its model is in production and why, for people who know no machine learning first."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from markupsafe import Markup
from scipy.special import expit

from pii_finetune.calibration import Calibration
from pii_finetune.evaluation import EvaluationReport
from pii_finetune.gate import Decision
from pii_finetune.intervals import Interval
from pii_finetune.plots import NAMES
from pii_finetune.report_plots import plot_intervals, plot_parts, plot_reliability, svg_of

_NUM_MISTAKES = 40
_NUM_CHANGES = 20
_MIN_CATEGORY_ROWS = 10  # below it a share says nothing
_CANDIDATE = "dpo"


@dataclass(frozen=True)
class RunFacts:
    """All that the page says, as values."""

    title: str
    decision: Decision
    evaluation: EvaluationReport
    calibration: Calibration
    data: Mapping[str, str]  # what it was trained on
    provenance: Mapping[str, str]  # where it comes from: commit, run, versions
    recipe: Mapping[str, str]  # settings
    changed_rules: Mapping[str, str]  # rules of the gate that are not as the profile has them
    data_is_newest: bool = True  # False: the source held other rows when the run ended


def render_run_report(facts: RunFacts) -> str:
    """Return the page: HTML without a link to anything it needs; every text from outside is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["figure"] = _figure
    report = facts.evaluation
    tested = report.predictions.loc[report.predictions["slice"] == "test"]
    production = "production" in report.test
    compared = [_CANDIDATE, *(["production"] if production else [])]
    return environment.get_template("run_report.html.jinja").render(
        facts=facts,
        report=report,
        names=NAMES,
        candidate=report.test[_CANDIDATE],
        cards=_cards(report),
        mistakes=_mistakes(tested),
        changes=_changes(tested) if production else None,
        intervals=_svg(plot_intervals(report), "F1, recall and precision of all models with their intervals"),
        languages=_svg(plot_parts(report.by_language, compared, "f1"), "F1 by language"),
        categories=_categories(report, compared),
        reliability=_svg(
            plot_reliability(
                np.asarray(tested["expected"] == "yes"),
                expit(np.asarray(tested[f"{_CANDIDATE}_margin"])),
                np.asarray(tested[f"{_CANDIDATE}_probability"]),
            ),
            "What was said beside what is right",
        ),
    )


def _svg(figure: Any, label: str) -> Markup:
    return Markup(svg_of(figure, label))  # noqa: S704  our own drawing, whose texts matplotlib escapes


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _cards(report: EvaluationReport) -> list[dict[str, str]]:
    """Return the three figures of the first screen as natural frequencies, which people read rightly.

    Source: Gigerenzer and Hoffrage 1995, How to improve Bayesian reasoning without instruction: frequency formats.
    """
    metrics, intervals = report.test[_CANDIDATE], report.intervals[_CANDIDATE]
    before = report.test.get("production")
    found, right = _per_hundred(metrics.recall), _per_hundred(metrics.precision)
    cards = [
        _card(
            found,
            f"sensitive labels are found{_rest(found, 'missed')}",
            _range(intervals["recall"]),
            before and before.recall,
        ),
        _card(
            right,
            f"labels that it calls sensitive are sensitive{_rest(right, 'false alarms')}",
            _range(intervals["precision"]),
            before and before.precision,
        ),
    ]
    if report.unseen:
        beyond, known = report.unseen[_CANDIDATE], report.unseen.get("production")
        cards.append(
            _card(
                _per_hundred(beyond.accuracy),
                "labels of things it never met are answered rightly",
                f"of {beyond.num_rows:,} labels that are in no training text",
                known and known.accuracy,
            )
        )
    return cards


def _card(value: str, what: str, certainty: str, before: float | None) -> dict[str, str]:
    told = f"the model before: {_per_hundred(before)} of 100" if before is not None else ""
    return {"value": value, "what": what, "range": certainty, "before": told}


def _rest(value: str, called: str) -> str:
    """Say what becomes of the others of a hundred, or nothing where there are none."""
    return f"; {100 - int(value)} are {called}" if value.isdigit() and value != "100" else ""


def _range(interval: Interval) -> str:
    low, high = _per_hundred(interval.low), _per_hundred(interval.high)
    return f"{low} to {high} if other labels like these were asked" if low != high else ""


def _per_hundred(share: float) -> str:
    """Return a share as a count of a hundred; never 100 or 0 where it is not all or none."""
    if math.isnan(share):
        return "–"
    return str(min(99, max(1, round(100 * share)))) if 0 < share < 1 else str(round(100 * share))


def _mistakes(tested: pd.DataFrame) -> dict[str, Any]:
    wrong = tested.loc[tested[f"{_CANDIDATE}_answer"] != tested["expected"]]
    missed, alarms = (wrong.loc[wrong["expected"] == answer] for answer in ("yes", "no"))
    return {
        "missed": len(missed),
        "alarms": len(alarms),
        "rows": [
            ("missed", "sensitive, called harmless", _worst(missed, ascending=True)),
            ("alarms", "harmless, called sensitive", _worst(alarms, ascending=False)),
        ],
    }


def _worst(rows: pd.DataFrame, *, ascending: bool) -> list[dict[Any, Any]]:
    chosen = rows.sort_values(f"{_CANDIDATE}_probability", ascending=ascending, kind="stable").head(_NUM_MISTAKES // 2)
    return [
        {
            "label": row["label"],
            "language": row["language"],
            "row": row["row"],
            "probability": row[f"{_CANDIDATE}_probability"],
        }
        for row in chosen.to_dict("records")
    ]


def _changes(tested: pd.DataFrame) -> dict[str, Any]:
    """Return where the candidate and the model in production differ: which of them is right."""
    now, before = (tested[f"{name}_answer"] == tested["expected"] for name in (_CANDIDATE, "production"))
    worse = tested.loc[before & ~now]
    return {
        "better": len(tested.loc[now & ~before]),
        "worse": len(worse),
        "rows": worse.head(_NUM_CHANGES).to_dict("records"),
    }


def _categories(report: EvaluationReport, names: list[str]) -> Markup | None:
    parts = {
        name: {
            part: metrics
            for part, metrics in report.by_category[name].items()
            if metrics.num_rows >= _MIN_CATEGORY_ROWS
        }
        for name in names
        if report.by_category
    }
    if not parts or not parts[names[0]]:
        return None
    return _svg(plot_parts(parts, names, "accuracy"), "Share of right answers by category")
