import math
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pii_finetune.model_card import CardFacts, Figure, GateRow, render_model_card

FIGURES = {"accuracy": Figure(0.957), "f1": Figure(0.955, 0.931, 0.972), "auroc": Figure(0.98), "ece": Figure(0.03)}
FACTS = CardFacts(
    model_name="pii-dpo",
    model_uri="models:/pii-dpo/Production",
    license="apache-2.0",
    base_name="Qwen/Qwen2.5-1.5B-Instruct",
    base_revision="989aa79",
    base_is_on_hub=True,
    dataset_name="PII_dataset_2.xlsx",
    dataset_fingerprint="f" * 64,
    num_rows={"English": {"train": 500, "test": 120}, "Hindi": {"train": 90}, "Klingon": {"test": 3}},
    recipe={"sft.learning_rate": "0.0002", "lora.r": "16"},
    candidate="dpo",
    evaluation={"original": {"f1": Figure(0.526)}, "dpo": FIGURES},
    unseen={"dpo": {"accuracy": Figure(0.791)}},
    by_language={"English": {"f1": Figure(0.961)}, "Hindi": {"f1": Figure(0.94)}},
    calibration={"temperature": "1.31", "ECE before": "0.080", "ECE after": "0.030"},
    decision="Promoted: F1 0.955 reaches the minimum 0.8.",
    gate=(GateRow("minimum F1", "0.955", "0.800", True), GateRow("no language falls behind", "0.94", "0.95", False)),
    provenance={"git commit": "5bd148c", "MLflow run": "0123abc", "transformers": "5.23.0"},
)
MARKDOWN = MarkdownIt("gfm-like", {"linkify": False}).enable("table")


def shown(card: str) -> str:
    """Return the text a reader sees, of the body."""
    tokens = MARKDOWN.parse(ModelCard(card).text)
    return "\n".join("".join(c.content for c in t.children or [] if c.type in ("text", "code_inline")) for t in tokens)


def structure(card: str) -> list[str]:
    """Return what the body is made of, without its texts."""
    tokens = MARKDOWN.parse(ModelCard(card).text)
    return [kind for t in tokens for kind in (t.type, *(c.type for c in t.children or [] if c.type != "text_special"))]


def test_the_front_matter_is_what_hugging_face_reads():
    data = ModelCard(render_model_card(FACTS)).data
    assert data.language == ["en", "hi"]  # Klingon has no code
    assert (data.license, data.base_model) == ("apache-2.0", "Qwen/Qwen2.5-1.5B-Instruct")
    assert (data.library_name, data.pipeline_tag) == ("peft", "text-classification")
    assert data.metrics == ["accuracy", "f1", "roc_auc"]
    assert data.model_name == "pii-dpo"
    assert {(r.metric_type, r.metric_value) for r in data.eval_results} == {
        ("accuracy", 0.957), ("f1", 0.955), ("roc_auc", 0.98)
    }  # fmt: skip
    assert {(r.dataset_name, r.dataset_split, r.dataset_revision) for r in data.eval_results} == {
        ("PII_dataset_2.xlsx", "test", "f" * 64)
    }


def test_a_base_in_a_folder_is_not_claimed_to_be_on_the_hub():
    card = render_model_card(replace(FACTS, base_name="data/embedded-base", base_is_on_hub=False))
    assert "base_model" not in ModelCard(card).data.to_dict()
    assert "on data/embedded-base." in shown(card)


def test_a_figure_that_is_not_a_number_is_not_published():
    figures = {"f1": Figure(math.nan), "accuracy": Figure(0.5)}
    data = ModelCard(render_model_card(replace(FACTS, evaluation={"dpo": figures}))).data
    assert data.metrics == ["accuracy"]
    assert [r.metric_type for r in data.eval_results] == ["accuracy"]


def test_every_fact_is_shown():
    text = shown(render_model_card(FACTS))
    for fact in (
        "PII_dataset_2.xlsx", "f" * 64, "English", "500", "Klingon", "sft.learning_rate", "0.0002", "original", "0.526",
        "0.955 (0.931 to 0.972)", "0.791", "0.961", "temperature", "1.31", "minimum F1", "0.800", "passed", "failed",
        "Promoted: F1 0.955 reaches the minimum 0.8.", "git commit", "5bd148c", "989aa79", "MLflow run", "5.23.0",
    ):  # fmt: skip
        assert fact in text, fact


def test_the_sections_are_those_a_reader_expects():
    card = render_model_card(FACTS)
    headings = [line.lstrip("# ") for line in card.splitlines() if line.startswith("#")]
    assert headings == [
        "pii-dpo", "Intended use and limits", "How to use it", "Training data", "Training recipe", "Evaluation",
        "By language", "Calibration", "Why it was promoted, or not", "Provenance",
    ]  # fmt: skip


def test_what_is_not_known_is_left_out():
    bare = replace(FACTS, unseen={}, by_language={}, calibration={}, gate=(), base_revision=None)
    text = shown(render_model_card(bare))
    assert "no training text" not in text
    assert "By language" not in text
    assert "Probabilities are the model's own." in text


def test_intervals_are_explained_only_where_there_are_some():
    assert "95 % intervals" in shown(render_model_card(FACTS))
    plain = replace(FACTS, evaluation={"dpo": {"f1": Figure(0.9)}})
    assert "95 % intervals" not in shown(render_model_card(plain))


HOSTILE = [
    "a | b", "```", "`x`", "**b**", "_i_", "<script>alert(1)</script>", "[x](javascript:alert(1))", "![x](http://x)",
    "a\n# heading", "a\r\n---\r\nlicense: mit", "\n---\n", "https://evil.example", "www.evil.example", "a@b.example",
    "&lt;b&gt;", "\\", "a \\| b", "~~x~~", "{{ 7 * 7 }}", "{% raw %}", "\u202eabc", "<!--", "$x$", ":smile:", "- x",
    "# x", "1. x", "> x", "    x", "---", "| x |", "'", '"', "!!python/object/apply:os.system ['ls']", "&a",
    "*a", "null",
]  # fmt: skip


def with_text(text: str) -> CardFacts:
    return replace(
        FACTS,
        base_name=text,
        dataset_name=text,
        num_rows={text: {text: 1}},
        recipe={text: text},
        candidate=text,
        evaluation={text: {text: Figure(0.5), "f1": Figure(0.5)}},
        unseen={text: {text: Figure(0.5)}},
        by_language={text: {text: Figure(0.5)}},
        calibration={text: text},
        decision=text,
        gate=(GateRow(text, text, text, True),),
        provenance={text: text},
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_from_outside_becomes_markup(text: str):
    card = render_model_card(with_text(text))
    assert structure(card) == structure(render_model_card(with_text("plain")))


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=30).filter(lambda text: text.strip()))
def test_any_text_leaves_the_front_matter_and_the_structure_whole(text: str):
    card = render_model_card(with_text(text))
    front = yaml.safe_load(card.split("\n---\n")[0].removeprefix("---\n"))
    assert front["license"] == "apache-2.0"
    assert front["pipeline_tag"] == "text-classification"
    assert ModelCard(card).data.to_dict() == front
    assert structure(card) == structure(render_model_card(with_text("plain")))


def test_what_was_escaped_reads_as_it_was_written():
    assert "a | b <b> *x* [y](z) & `c`" in shown(render_model_card(with_text("a | b <b> *x* [y](z) & `c`")))
