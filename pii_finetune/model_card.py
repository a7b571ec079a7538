"""The card of a model: what it is for, what it was made from, what it can do; in Hugging Face's format."""

import html
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2
from huggingface_hub import EvalResult, ModelCardData
from markupsafe import Markup

from pii_finetune.drift import visible
from pii_finetune.languages import language_code

# Figures of ours by their names at https://hf.co/metrics; those without one are in the tables only.
_METRICS = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "f1",
    "auroc": "roc_auc",
    "brier": "brier_score",
}
_TAGS = ["lora", "trl", "dpo", "privacy", "pii", "data-labels"]
_MARKS = re.compile(r"[\\`*_{}\[\]|~$@:]|(?<=www)\.")  # what could begin Markdown in the middle of a line


@dataclass(frozen=True)
class Figure:
    """A measured value and, if known, the interval it is in with 95 % confidence."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


Figures = Mapping[str, Figure]  # by the metric's name


@dataclass(frozen=True)
class GateRow:
    """One condition of the gate, in words and figures as people read them."""

    rule: str
    measured: str
    required: str
    passed: bool


@dataclass(frozen=True)
class CardFacts:
    """All that a card says, as plain values; what is empty is left out."""

    model_name: str  # the registered name
    model_uri: str  # as mlflow.pyfunc.load_model takes it
    license: str  # Hugging Face's identifier, e.g. apache-2.0
    base_name: str
    base_revision: str | None
    base_is_on_hub: bool
    dataset_name: str
    dataset_fingerprint: str
    num_rows: Mapping[str, Mapping[str, int]]  # language -> split -> rows
    recipe: Mapping[str, str]  # setting -> value
    candidate: str  # which of `evaluation` this model is
    evaluation: Mapping[str, Figures]  # model -> figures on the test split
    unseen: Mapping[str, Figures]  # model -> figures on concepts that are in no training text
    by_language: Mapping[str, Figures]  # of the candidate, on the test split
    calibration: Mapping[str, str]
    decision: str  # promoted or not, and why, in one sentence
    gate: tuple[GateRow, ...]
    provenance: Mapping[str, str]  # git commit, MLflow run, versions, ...


def render_model_card(facts: CardFacts) -> str:
    """Return the card as Markdown with YAML front matter; no text in `facts` becomes markup.

    Source: https://huggingface.co/docs/hub/model-cards
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=False,  # noqa: S701  Markdown: `finalize` escapes every value instead
        finalize=_escape,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    body = environment.get_template("model_card.md.jinja").render(
        facts=facts,
        quoted=lambda text: Markup(json.dumps(text)),  # noqa: S704  in code, on one line: it cannot end the block
        columns=_columns,
        splits=list(dict.fromkeys(split for rows in facts.num_rows.values() for split in rows)),
    )
    return f"---\n{_front_matter(facts)}\n---\n\n{body}"


def _front_matter(facts: CardFacts) -> str:
    figures = facts.evaluation[facts.candidate]
    known = {n: metric for n, metric in _METRICS.items() if n in figures and math.isfinite(figures[n].value)}
    codes = [code for language in facts.num_rows if (code := language_code(language))]
    return ModelCardData(
        language=codes or None,
        license=facts.license,
        base_model=visible(facts.base_name) if facts.base_is_on_hub else None,
        library_name="peft",
        pipeline_tag="text-classification",
        tags=_TAGS,
        metrics=list(known.values()),
        model_name=visible(facts.model_name),
        eval_results=[
            EvalResult(
                task_type="text-classification",
                dataset_type="workbook",  # of one's own: on no hub
                dataset_name=visible(facts.dataset_name),
                dataset_split="test",
                dataset_revision=facts.dataset_fingerprint,
                metric_type=metric,
                metric_value=round(figures[name].value, 4),
            )
            for name, metric in known.items()
        ]
        or None,
    ).to_yaml()


def _columns(table: Mapping[str, Figures]) -> list[str]:
    return list(dict.fromkeys(name for figures in table.values() for name in figures))


def _escape(value: object) -> str:
    """Return a value as it shows, on one line; Markup is what we wrote ourselves."""
    if isinstance(value, Markup):
        return value
    return _MARKS.sub(lambda mark: f"\\{mark.group()}", html.escape(visible(str(value)), quote=False))
