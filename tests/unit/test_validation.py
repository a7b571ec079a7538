import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from pii_finetune.errors import BadWorkbookError
from pii_finetune.labels import MAX_LABEL_CHARACTERS
from pii_finetune.records import Record
from pii_finetune.tables import COLUMNS, read_cell
from pii_finetune.validation import Problem, ValidationReport, problem_line, validate
from pii_finetune.workbook import Table

GOOD = [(f"label {at}", "English", "yes" if at % 2 else "no") for at in range(20)]  # rows 2 to 21


def table(*rows: Sequence[object], extra_columns: tuple[str, ...] = ()) -> Table:
    frame = pd.DataFrame({"row": range(2, len(rows) + 2)})
    for at, name in enumerate(COLUMNS):
        cells = [read_cell(row[at]) for row in rows]
        frame[name] = pd.Series([text for text, _ in cells], dtype=object)
        frame[f"{name}_kind"] = pd.Series([kind for _, kind in cells], dtype=object)
    return Table(Path("book.xlsx"), "labels", frame, extra_columns)


def problems(*rows: Sequence[object]) -> dict[str, list[tuple[int, ...]]]:
    found: dict[str, list[tuple[int, ...]]] = {}
    for problem in validate(table(*rows), None).problems:
        found.setdefault(problem.column, []).append(problem.rows)
    return found


def test_good_rows_become_records():
    report = validate(table(*GOOD, extra_columns=("owner",)), None)
    assert report.require_valid() is report
    assert report.records[:2] == (Record("label 0", "English", False, 2), Record("label 1", "English", True, 3))
    assert (len(report.records), report.num_rows, report.num_cleaned, report.num_duplicates) == (20, 20, 0, 0)
    assert report.extra_columns == ("owner",)


def test_cells_are_normalised_and_counted():
    rows = [("  first\u00a0 name", "fr", True), ("last\u200b name", "Español", 1.0), ("e\u0301tat", "FRA", "No ")]
    report = validate(table(*GOOD, *rows), None)
    assert report.records[-3:] == (
        Record("first name", "French", True, 22),
        Record("last name", "Spanish", True, 23),
        Record("état", "French", False, 24),
    )
    assert report.num_cleaned == 3


def test_exact_duplicates_are_left_out_and_counted():
    report = validate(table(*GOOD, ("label  0", "en", "no")), None)
    assert (len(report.records), report.num_duplicates) == (20, 1)
    assert [copy.row for copy in report.copies] == [22]


def test_the_fingerprint_does_not_depend_on_formatting_or_order():
    one = validate(table(*GOOD), None)
    other = validate(table(*[(f" {label}", "en", answer.upper()) for label, _, answer in reversed(GOOD)]), None)
    assert one.fingerprint == other.fingerprint


def test_every_bad_row_is_named_by_its_number_and_column():
    found = problems(
        *GOOD,
        (None, "English", "no"),  # 22
        (7, "English", "no"),
        (" ", "English", "no"),
        ("x" * (MAX_LABEL_CHARACTERS + 1), "English", "no"),  # 25
        ("end <|im_end|>", "English", "no"),
        ("eman\u202e", "English", "no"),
        ("a", None, "no"),
        ("b", "Klingon", "no"),
        ("c", "English", None),  # 30
        ("d", "English", "perhaps"),
        ("both", "English", "yes"),
        ("both", "en", "no"),
    )
    assert sorted(found.pop("label")) == [(22, 24), (23,), (25,), (26,), (27,)]
    assert sorted(found.pop("language")) == [(28,), (29,)]
    assert sorted(found.pop("sensitive")) == [(30,), (31,), (32, 33)]
    assert not found


def test_a_label_may_have_different_answers_in_different_languages():
    assert not problems(*GOOD, ("name", "English", "yes"), ("name", "German", "no"))


def test_a_table_is_refused_as_a_whole_if_it_is_too_short_or_has_one_answer():
    found = validate(table(("a", "English", "yes"), ("b", "English", "yes")), None).problems
    assert [problem.rows for problem in found] == [(), ()]
    assert found[0].message.startswith("2 rows were given: too few to learn from")
    assert "give at least 20" in found[0].message
    assert "both answers must occur" in found[1].message


def test_a_failed_validation_has_no_records_and_raises_with_rows_and_remedy():
    report = validate(table(*GOOD, ("a", "Klingon", "no"), ("b", "Elvish", "no")), None)
    assert report.records == ()
    with pytest.raises(
        BadWorkbookError,
        match=r"column 'language', rows 22, 23 \('Klingon', 'Elvish'\): the language is not known; write its",
    ):
        report.require_valid()


def test_data_docs_are_written_and_hold_no_cell_of_a_bad_row(tmp_path: Path):
    rows = [("topsecret\u202e", "Klingonsecret", "topsecret?"), ("topsecret <|im_end|>", "English", "no")]
    report = validate(table(*GOOD, *rows), tmp_path / "docs")
    assert report.docs == tmp_path / "docs" / "index.html"
    pages = [page.read_text(encoding="utf-8") for page in (tmp_path / "docs").rglob("*.html")]
    assert len(pages) > 1
    assert not [page for page in pages if "secret" in page]
    assert any("label_control (critical)" in page and re.search(r"<br>Rows: 22\s*</", page) for page in pages)
    assert not any("advice" in page for page in pages)


def test_one_site_of_data_docs_shows_errors_and_advice_and_no_cell(tmp_path: Path):
    rows = [("topsecret 1", "en", "yes"), ("topsecret-1", "en", "no"), ("topsecret 1", "en", "yes")]
    report = validate(table(*GOOD, *rows), tmp_path, advice_seed=0)
    assert {"spelled_alike": "warning", "exact_duplicates": "info"}.items() <= {
        each.kind: each.severity for each in report.advice
    }.items()
    pages = {page.parts[-4]: page.read_text(encoding="utf-8") for page in (tmp_path / "validations").rglob("*.html")}
    assert pages.keys() == {"labels", "advice"}
    assert "spelled_alike (warning): rows of one language that the model reads as one text" in pages["advice"]
    assert "<br>2 rows are spelled as another row of the same language with the other answer" in pages["advice"]
    assert re.search(r"<br>Rows: 22, 23\s*</", pages["advice"])
    assert not [page for page in tmp_path.rglob("*.html") if "secret" in page.read_text(encoding="utf-8")]


def test_rows_that_cannot_be_used_are_not_advised_on():
    assert validate(table(*GOOD, ("a", "Klingon", "no")), None, advice_seed=0).advice == ()
    assert validate(table(*GOOD, ("label  0", "en", "no")), None).advice == ()


def test_a_message_lists_a_hundred_rows_at_most():
    line = problem_line(Problem("kind", "label", tuple(range(2, 152)), "mend it"))
    assert line.startswith("column 'label', rows 2, 3, ")
    assert line.endswith(" 101 and 50 more: mend it")


def test_the_shipped_workbook_is_valid(shipped: ValidationReport):
    assert not shipped.problems
    assert 3000 <= len(shipped.records) <= 5000
    assert (shipped.num_cleaned, shipped.num_duplicates, shipped.extra_columns) == (0, 0, ())
