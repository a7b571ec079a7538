from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from openpyxl import Workbook, load_workbook

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError
from pii_finetune.validation import validate
from pii_finetune.workbook import read_workbook

HEADER = ("label", "language", "sensitive")
ROW = ("first name", "English", "yes")


def write(path: Path, *rows: Sequence[object], sheets: Sequence[str] = ("first",)) -> Path:
    book = Workbook()
    book.remove(book.worksheets[0])
    for name in sheets:
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append([*row])
    book.save(path)
    return path


def settings(path: Path, **changes: object) -> DataConfig:
    return DataConfig(workbook=str(path), validation_fraction=0.1, test_fraction=0.2, seed=0, **changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "book.xlsx"


def test_columns_are_found_in_any_order_and_case(path: Path):
    write(path, ("Sensitive ", "LABEL", "language"), ("yes", "first name", "English"))
    rows = read_workbook(settings(path)).rows[["row", *HEADER]]
    assert rows.to_dict("records") == [{"row": 2, "label": "first name", "language": "English", "sensitive": "yes"}]


def test_columns_can_have_other_names(path: Path):
    write(path, ("Feld", "Sprache", "Heikel"), ROW)
    config = settings(path, label_column="feld", language_column="Sprache", sensitive_column="HEIKEL")
    assert read_workbook(config).rows["label"].tolist() == ["first name"]


def test_other_columns_are_reported_and_left_out(path: Path):
    write(path, (*HEADER, "comment", None, "owner"), (*ROW, "x", "y", "z"))
    table = read_workbook(settings(path))
    assert table.extra_columns == ("comment", "owner")
    assert [name for name in table.rows if not name.endswith("_kind")] == ["row", *HEADER]


def test_rows_keep_their_number_in_the_sheet_past_blank_ones(path: Path):
    write(path, HEADER, ROW, (), ("", None, ""), ROW, ())
    assert read_workbook(settings(path)).rows["row"].tolist() == [2, 5]


def test_the_first_visible_sheet_is_read_unless_one_is_named(path: Path):
    write(path, HEADER, ROW, sheets=("hidden", "shown", "other"))
    book = load_workbook(path)
    book["hidden"].sheet_state = "hidden"
    book.save(path)
    assert read_workbook(settings(path)).sheet == "shown"
    assert read_workbook(settings(path, sheet="other")).sheet == "other"
    assert read_workbook(settings(path, sheet="hidden")).sheet == "hidden"


def test_a_sheet_that_is_not_there_is_told_with_those_that_are(path: Path):
    write(path, HEADER, ROW, sheets=("labels", "notes"))
    with pytest.raises(BadWorkbookError, match="has no sheet 'label'; data.sheet can be one of 'labels', 'notes'"):
        read_workbook(settings(path, sheet="label"))


def test_a_missing_column_is_told_with_those_that_are_there(path: Path):
    write(path, ("name", "language", "sensitive"), ROW)
    with pytest.raises(BadWorkbookError, match=r"has no column 'label' \(columns found: 'name', 'language', 'sens"):
        read_workbook(settings(path))


def test_two_columns_of_one_name_are_refused(path: Path):
    write(path, (*HEADER, "Label"), (*ROW, "x"))
    with pytest.raises(BadWorkbookError, match="has 2 columns named 'label'.*keep one of them"):
        read_workbook(settings(path))


def test_an_empty_sheet_is_refused(path: Path):
    write(path)
    with pytest.raises(BadWorkbookError, match="is empty; the first row must name the columns"):
        read_workbook(settings(path))


def test_more_rows_than_allowed_are_refused_with_the_setting_that_allows_them(path: Path):
    write(path, HEADER, ROW, ROW, ROW)
    assert len(read_workbook(settings(path, max_rows=3)).rows) == 3
    with pytest.raises(BadWorkbookError, match="has more rows than data.max_rows = 2"):
        read_workbook(settings(path, max_rows=2))


@pytest.mark.parametrize("content", [b"label,language,sensitive\n", b"PK\x03\x04 cut"])
def test_a_file_that_is_no_workbook_is_refused_with_a_remedy(path: Path, content: bytes):
    path.write_bytes(content)
    with pytest.raises(BadWorkbookError, match=r"cannot be read.*save it as .xlsx"):
        read_workbook(settings(path))


def test_a_workbook_cut_off_in_the_middle_is_refused(path: Path):
    content = write(path, HEADER, ROW).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(BadWorkbookError, match="the archive is damaged"):
        read_workbook(settings(path))


def test_a_path_that_leads_nowhere_or_to_an_empty_folder_is_refused(tmp_path: Path):
    with pytest.raises(BadWorkbookError, match=r"none.xlsx: there is no such file; check the path"):
        read_workbook(settings(tmp_path / "none.xlsx"))
    with pytest.raises(BadWorkbookError, match="holds no table"):
        read_workbook(settings(tmp_path))


def test_a_column_of_categories_is_read_and_no_part_of_the_fingerprint(tmp_path: Path):
    rows = [(f"label {at}", "English", "yes" if at % 2 else "no") for at in range(20)]
    plain, named = tmp_path / "plain.csv", tmp_path / "named.csv"
    pd.DataFrame(rows, columns=["label", "language", "sensitive"]).to_csv(plain, index=False)
    frame = pd.DataFrame(rows, columns=["label", "language", "sensitive"])
    frame.assign(Category=["health ", None, *["work"] * 18]).to_csv(named, index=False)
    reports = []
    for path in (plain, named):
        config = DataConfig(workbook=str(path), validation_fraction=0.1, test_fraction=0.2, seed=0)
        reports.append(validate(read_workbook(config), None).require_valid())
    assert [r.category for r in reports[1].records[:3]] == ["health", "", "work"]
    assert reports[1].extra_columns == ()
    assert reports[0].fingerprint == reports[1].fingerprint
