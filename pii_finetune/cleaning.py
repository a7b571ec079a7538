"""Putting right what a person would put right in a cell, and counting it; what is left is for expectations to judge."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

import pandas as pd

from pii_finetune.answers import canonical_answer
from pii_finetune.expectations import KINDS
from pii_finetune.labels import clean_label
from pii_finetune.languages import canonical_language
from pii_finetune.records import ANSWERS
from pii_finetune.scripts import posing_letters
from pii_finetune.special_tokens import find_special_token

_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad]")


def clean(rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the rows normalised, with facts to judge them by, and how many cells were normalised in which way.

    Args:
        rows: as in `workbook.Table`.

    Returns:
        Indexed by `row`: label, language and sensitive (None: empty, or not what the cell shows), `<name>_kind` of
        each, `category` (empty: none), `label_script` (mixed or one), `label_token` (special or none) and
        `label_language_answers`, the number of different answers that this label has in this language. The counts
        name only what occurred.
    """
    labels = [
        clean_label(cell) or None if kind == "text" else None
        for cell, kind in zip(rows["label"], rows["label_kind"], strict=True)
    ]
    texts = {name: [_text(cell) for cell in rows[name]] for name in ("language", "sensitive")}
    languages = [_language(text) for text in texts["language"]]
    answers = [canonical_answer(text) or text or None for text in texts["sensitive"]]
    raw = [cell for cell, kind in zip(rows["label"], rows["label_kind"], strict=True) if kind == "text"]
    normalised = {
        "labels with invisible characters removed": sum(bool(_INVISIBLE.search(text)) for text in raw),
        "labels composed to NFC": sum(not unicodedata.is_normalized("NFC", text) for text in raw),
        "labels with spaces or line breaks put right": sum(text != " ".join(text.split()) for text in raw),
        "languages written by their English names": sum(
            new is not None and old != new for old, new in zip(rows["language"], languages, strict=True)
        ),
        "answers written as yes or no": sum(
            new in ANSWERS and old != new for old, new in zip(rows["sensitive"], answers, strict=True)
        ),
    }
    cleaned = pd.DataFrame(
        {
            "label": labels,
            "label_kind": [
                "empty" if kind == "text" and label is None else kind
                for kind, label in zip(rows["label_kind"], labels, strict=True)
            ],
            "label_script": [
                "mixed" if label is not None and posing_letters(label, language) else "one"
                for label, language in zip(labels, languages, strict=True)
            ],
            "label_token": [
                "special" if label is not None and find_special_token(label) else "none" for label in labels
            ],
            "language": _where_readable(languages, rows["language_kind"]),
            "language_kind": _kinds(languages, rows["language_kind"]),
            "sensitive": _where_readable(answers, rows["sensitive_kind"]),
            "sensitive_kind": _kinds(answers, rows["sensitive_kind"]),
            "category": [clean_label(cell or "") for cell in rows["category"]] if "category" in rows else "",
        },
        index=pd.Index(rows["row"].astype(int), name="row"),
        dtype=object,
    )
    pairs = cleaned.groupby(["label", "language"])["sensitive"]
    cleaned["label_language_answers"] = pairs.transform("nunique") if len(cleaned) else []
    return cleaned, {what: count for what, count in normalised.items() if count}


def read_languages(rows: pd.DataFrame) -> list[str | None]:
    """Return the language of each row, as `clean` puts it right; None: empty, or not what the cell shows."""
    return _where_readable([_language(_text(cell)) for cell in rows["language"]], rows["language_kind"])


def _language(text: str) -> str | None:
    return canonical_language(text) or text or None


def _where_readable(values: Sequence[str | None], kinds: Iterable[str]) -> list[str | None]:
    """Return the values whose cells are what they show; the others are reported by their kind alone."""
    return [None if kind in KINDS else value for value, kind in zip(values, kinds, strict=True)]


def _kinds(values: Sequence[str | None], kinds: Iterable[str]) -> list[str]:
    return ["empty" if value is None and kind not in KINDS else kind for value, kind in zip(values, kinds, strict=True)]


def _text(cell: str | None) -> str:
    return "" if cell is None else unicodedata.normalize("NFC", _INVISIBLE.sub("", cell)).strip()
