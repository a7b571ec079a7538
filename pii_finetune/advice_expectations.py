"""What is expected of a good workbook, though a run is made without it: the suite of severities warning and info."""

from pii_finetune.expectations import Expectation

MIN_ROWS = 20  # of a language
_MIN_SHARE = 0.20  # of the rarer answer among all rows
_MIN_SHARE_IN_LANGUAGE = 0.10
_MIN_LANGUAGE_SHARE = 0.01
_MIN_PROBABILITY = 0.05  # of the given answer


def advice_expectations(num_rows: int) -> tuple[Expectation, ...]:
    """Return the suite for a workbook of `num_rows` rows; its columns are those of `advice_facts`.

    Messages have places for what `advice` counts.
    """
    return (
        Expectation(
            "class_balance",
            f"at least {100 * _MIN_SHARE:.0f} % of the rows have each answer",
            "only {part} are marked {rarer}: a model that never says {rarer} would be nearly right, so it learns too "
            "little of what makes a label {rarer}; add rows marked {rarer}",
            "ExpectColumnMeanToBeBetween",
            {"column": "is_sensitive", "min_value": _MIN_SHARE, "max_value": 1 - _MIN_SHARE},
            "warning",
        ),
        Expectation(
            "language_balance",
            f"at least {100 * _MIN_SHARE_IN_LANGUAGE:.0f} % of a language's rows have each answer, where it has "
            f"{MIN_ROWS} or more",
            "{languages} nearly always one answer: the model can learn to answer from the language and not from the "
            "label; add rows of the other answer",
            "ExpectColumnValuesToBeBetween",
            {
                "column": "rarer_share_in_language",
                "min_value": _MIN_SHARE_IN_LANGUAGE,
                "row_condition": {
                    "type": "comparison",
                    "column": {"name": "language_rows"},
                    "operator": ">=",
                    "parameter": MIN_ROWS,
                },
            },
            "warning",
        ),
        Expectation(
            "language_coverage",
            f"a language has at least {MIN_ROWS} rows and {100 * _MIN_LANGUAGE_SHARE:.0f} % of all",
            f"{{languages}} fewer than {MIN_ROWS} rows or less than {100 * _MIN_LANGUAGE_SHARE:.0f} % of all: too few "
            "to learn from and to measure by; add rows, or do not rely on the model there",
            "ExpectColumnValuesToBeBetween",
            {"column": "language_rows", "min_value": max(MIN_ROWS, _MIN_LANGUAGE_SHARE * num_rows)},
            "warning",
        ),
        Expectation(
            "spelled_alike",
            "rows of one language that the model reads as one text have one answer",
            "{rows} spelled as another row of the same language with the other answer: the model reads them as one "
            "text and cannot learn both; decide which answer is right and make the rows agree",
            "ExpectColumnValuesToBeInSet",
            {"column": "answers_of_spelling", "value_set": [1]},
            "warning",
        ),
        Expectation(
            "across_languages",
            "a text has the same answer in every language that has it",
            "for information: {rows} spelled as a row of another language with the other answer, which is right only "
            "if the word means something else there; check that it does",
            "ExpectColumnValuesToBeInSet",
            {"column": "answers_in_other_languages", "value_set": [0]},
            "info",
        ),
        Expectation(
            "near_duplicates",
            "every row of a language says something that no other says",
            "for information: {part} only write again, in another way, what another row of the same language says: "
            "the model reads both as one text and learns little from the second; prefer rows with other labels",
            "ExpectCompoundColumnsToBeUnique",
            {"column_list": ["spelling", "language"]},
            "info",
        ),
        Expectation(
            "exact_duplicates",
            "no row stands twice",
            "for information: {rows} written as a row above, with the same answer, and left out",
            "ExpectColumnValuesToBeInSet",
            {"column": "is_copy", "value_set": [0]},
            "info",
        ),
        Expectation(
            "orders",
            "no label reads as an order to a language model",
            "for information: {rows} worded as an order to a language model; it is asked about as data and not obeyed, "
            "but a label of that kind is seldom a column's name; check that it belongs here",
            "ExpectColumnValuesToBeInSet",
            {"column": "is_order", "value_set": [0]},
            "info",
        ),
        Expectation(
            "suspected_answers",
            f"a baseline that has not seen a row finds its answer at least {100 * _MIN_PROBABILITY:.0f} % probable",
            f"in {{checked}}, {{answers}} less than {100 * _MIN_PROBABILITY:.0f} % probability by what a character "
            "n-gram baseline learns from the other rows: some are hard, some are mistakes, and a mistake teaches the "
            "model wrong; check them from the top",
            "ExpectColumnValuesToBeBetween",
            {"column": "answer_probability", "min_value": _MIN_PROBABILITY},
            "warning",
        ),
    )
