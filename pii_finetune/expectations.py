"""What is expected of the rows of a workbook, without which no run is made: the suite of severity critical."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pii_finetune.labels import MAX_LABEL_CHARACTERS
from pii_finetune.languages import LANGUAGES
from pii_finetune.records import ANSWERS

MIN_ROWS = 20
KINDS = {
    "formula": "the cell is a formula, whose stored value can be out of date; paste the cells as values",
    "error": "the cell holds a spreadsheet error such as #N/A; type what was meant",
    "unclear": "programs differ on what the cell holds: it is not what its type says (text, number, date, yes/no), or "
    "a tab splits it; type what was meant",
    "merged": "the cell is part of a merged area, so its row is unclear; unmerge it and fill each cell",
}
_CONTROL = "[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]"


@dataclass(frozen=True)
class Expectation:
    """One expectation; `kind` and `arguments` are Great Expectations' own, which only `checkpoint` imports."""

    name: str
    holds: str  # what is so where it holds; Data Docs show it
    message: str  # where it fails: why that matters and what to do
    kind: str
    arguments: Mapping[str, Any]
    severity: Literal["critical", "warning", "info"] = "critical"


def label_expectations() -> tuple[Expectation, ...]:
    """Return the suite; its columns are those of `cleaning.clean`."""
    cells = [
        _none_of(f"{column}_kind", [kind], f"{column}_{kind}", f"no {column} is {what}", KINDS[kind])
        for column in ("label", "language", "sensitive")
        for kind, what in (
            ("formula", "a formula"),
            ("error", "a spreadsheet error"),
            ("unclear", "a cell on which programs differ"),
            ("merged", "a merged cell"),
        )
    ]
    return (
        *cells,
        Expectation(
            "num_rows",
            f"at least {MIN_ROWS} rows are given",
            f"{{given}} given: too few to learn from and to test on; give at least {MIN_ROWS}",
            "ExpectTableRowCountToBeBetween",
            {"min_value": MIN_ROWS},
        ),
        Expectation(
            "both_answers",
            "both answers occur",
            "both answers must occur; a model cannot learn to decide from examples of one answer only",
            "ExpectColumnDistinctValuesToContainSet",
            {"column": "sensitive", "value_set": list(ANSWERS)},
        ),
        _none_of(
            "label_kind",
            ["number", "date", "boolean", "other"],
            "label_text",
            "every label is text",
            "a label must be text, not a number, date or boolean; type the label, or delete the row",
        ),
        _none_of(
            "label_kind",
            ["empty"],
            "label_empty",
            "no label is empty",
            "the label is empty; type one, or delete the row",
        ),
        _none_of(
            "label_script",
            ["mixed"],
            "label_script",
            "no letter of another script poses as a Latin one",
            "the label has letters of another script that pose as Latin ones, so it reads as it is not; retype it",
        ),
        Expectation(
            "label_length",
            f"a label has 1 to {MAX_LABEL_CHARACTERS} characters",
            f"a label can have at most {MAX_LABEL_CHARACTERS} characters; it looks like text of another kind",
            "ExpectColumnValueLengthsToBeBetween",
            {"column": "label", "min_value": 1, "max_value": MAX_LABEL_CHARACTERS},
        ),
        _none_of(
            "label_token",
            ["special"],
            "label_token",
            "no label contains a control token of a language model",
            "the label contains a control token of a language model, by which it could speak in another's name; "
            "remove it",
        ),
        Expectation(
            "label_control",
            "no label contains control or text-direction characters",
            "the label contains control or text-direction characters, so it reads as it is not; retype it",
            "ExpectColumnValuesToNotMatchRegex",
            {"column": "label", "regex": _CONTROL},
        ),
        _none_of(
            "language_kind",
            ["empty"],
            "language_empty",
            "no language is empty",
            "the language is empty; write e.g. English or en",
        ),
        _one_of(
            "language",
            list(LANGUAGES),
            "language_known",
            "every language is known",
            "the language is not known; write its English name or two-letter code, e.g. English or en",
        ),
        _none_of(
            "sensitive_kind",
            ["empty"],
            "sensitive_empty",
            "no answer is empty",
            "the answer is empty; write yes or no",
        ),
        _one_of(
            "sensitive",
            list(ANSWERS),
            "sensitive_known",
            "every answer is yes or no",
            "the answer is no word known for yes or no; write yes or no",
        ),
        _one_of(
            "label_language_answers",
            [0, 1],
            "one_answer",
            "a label has one answer in a language",
            "the same label and language has both answers; decide which is right and make the rows agree",
        ),
    )


def _none_of(column: str, values: list[Any], name: str, holds: str, message: str) -> Expectation:
    arguments = {"column": column, "value_set": values}
    return Expectation(name, holds, message, "ExpectColumnValuesToNotBeInSet", arguments)


def _one_of(column: str, values: list[Any], name: str, holds: str, message: str) -> Expectation:
    arguments = {"column": column, "value_set": values}
    return Expectation(name, holds, message, "ExpectColumnValuesToBeInSet", arguments)
