from pathlib import Path

import pandas as pd
import pytest
from openpyxl.utils.exceptions import IllegalCharacterError

from pii_finetune.errors import BadWorkbookError
from pii_finetune.score_table import _neutralise, _read, _write, score_table

# No test here gets as far as a model: every mistake is told before one is loaded.
MODEL = "models:/not-reached/1"


def score(source: Path, target: Path) -> None:
    score_table(source, target, MODEL)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text("label,language\nfirst name,English\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["out.txt", "out", "out.xls", "out.csv.gz"])
def test_an_ending_that_does_not_say_what_to_write_is_refused(source: Path, name: str):
    with pytest.raises(BadWorkbookError, match=r"the ending must be .csv or .xlsx"):
        score(source, source.with_name(name))


def test_a_folder_that_is_not_there_is_not_made(source: Path):
    with pytest.raises(BadWorkbookError, match="there is no folder .*; make it first"):
        score(source, source.parent / "none" / "out.csv")
    assert not (source.parent / "none").exists()


def test_a_folder_that_cannot_be_written_to_is_told_before_a_model_is_loaded(source: Path):
    with pytest.raises(BadWorkbookError, match=r"--out /proc/out.csv: nothing can be written to /proc"):
        score(source, Path("/proc/out.csv"))


def test_the_table_itself_is_never_overwritten(source: Path):
    before = source.read_text()
    with pytest.raises(BadWorkbookError, match="is the table itself, which would be lost"):
        score(source, source.parent / "." / source.name)
    assert source.read_text() == before


@pytest.mark.parametrize("name", ["none.csv", "none.xlsx"])
def test_a_file_that_is_not_there_is_told_by_name(tmp_path: Path, name: str):
    with pytest.raises(BadWorkbookError, match=rf"{name}: cannot be read .*\(No such file or directory\)"):
        score(tmp_path / name, tmp_path / "out.csv")


@pytest.mark.parametrize(("name", "content"), [("a.csv", b""), ("a.csv", b"\xff\xfe\x00"), ("a.xlsx", b"label\n")])
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, name: str, content: bytes):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadWorkbookError, match=r"cannot be read as a .csv or .xlsx table"):
        score(tmp_path / name, tmp_path / "out.csv")


@pytest.mark.parametrize("header", ["name,language", "label,Label"])
def test_a_table_needs_exactly_one_column_label(source: Path, header: str):
    source.write_text(f"{header}\na,b\n", encoding="utf-8")
    with pytest.raises(BadWorkbookError, match=r"exactly one column 'label'.*\(columns found: '"):
        score(source, source.with_name("out.csv"))


def test_rows_without_a_label_are_named(source: Path):
    source.write_text("label,language\na,English\n,English\nb,English\n  ,English\n", encoding="utf-8")
    with pytest.raises(BadWorkbookError, match="no label in row 3, 5"):
        score(source, source.with_name("out.csv"))


def test_a_cell_of_a_workbook_without_a_label_is_named(tmp_path: Path):
    pd.DataFrame({"label": ["a", None], "note": ["x", "y"]}).to_excel(tmp_path / "a.xlsx", index=False)
    with pytest.raises(BadWorkbookError, match="no label in row 3"):
        score(tmp_path / "a.xlsx", tmp_path / "out.csv")


def test_a_refused_table_leaves_nothing_behind(source: Path):
    source.write_text("name\na\n", encoding="utf-8")
    with pytest.raises(BadWorkbookError):
        score(source, source.with_name("out.csv"))
    assert [path.name for path in source.parent.iterdir()] == [source.name]


def test_labels_that_look_like_missing_values_or_numbers_are_read_as_text(source: Path):
    source.write_text(" Label ,n\nNA,007\nnull,1e3\n", encoding="utf-8")
    assert _read(source).to_dict("list") == {"label": ["NA", "null"], "n": ["007", "1e3"]}


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_a_cell_that_a_spreadsheet_would_run_is_neutralised(cell: str):
    assert _neutralise(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["first-name", "", 3, 0.5, None])
def test_any_other_cell_is_left_as_it_is(cell: object):
    assert _neutralise(cell) == cell


@pytest.mark.parametrize("ending", ["csv", "xlsx"])
def test_a_written_table_reads_back_and_nothing_else_stays(tmp_path: Path, ending: str):
    table = pd.DataFrame({"label": ["first name", "जन्म तिथि"], "sensitive": ["yes", "yes"]})
    _write(table, tmp_path / f"out.{ending}")
    assert _read(tmp_path / f"out.{ending}").to_dict("list") == table.to_dict("list")
    assert [path.name for path in tmp_path.iterdir()] == [f"out.{ending}"]


def test_a_table_that_cannot_be_written_leaves_the_old_one(tmp_path: Path):
    target = tmp_path / "out.xlsx"
    _write(pd.DataFrame({"label": ["old"]}), target)
    with pytest.raises(IllegalCharacterError):
        _write(pd.DataFrame({"label": ["bell \x07"]}), target)
    assert _read(target)["label"].tolist() == ["old"]
    assert [path.name for path in tmp_path.iterdir()] == ["out.xlsx"]


def test_a_second_label_column_is_refused_in_both_formats(tmp_path: Path):
    rows = pd.DataFrame([["label", "label"], ["a", "b"]])
    rows.to_csv(tmp_path / "two.csv", index=False, header=False)
    rows.to_excel(tmp_path / "two.xlsx", index=False, header=False)
    for name in ("two.csv", "two.xlsx"):
        with pytest.raises(BadWorkbookError, match="needs exactly one column 'label'"):
            score(tmp_path / name, tmp_path / "out.csv")


def test_blank_lines_count_as_rows_and_are_named(tmp_path: Path):
    (tmp_path / "in.csv").write_text("label\na\n\nb\n", encoding="utf-8")
    with pytest.raises(BadWorkbookError, match="no label in row 3"):
        score(tmp_path / "in.csv", tmp_path / "out.csv")


def test_a_character_no_xlsx_can_hold_is_replaced(tmp_path: Path):
    _write(pd.DataFrame({"label": ["bell\x07"]}).map(_neutralise), tmp_path / "out.xlsx")
    assert pd.read_excel(tmp_path / "out.xlsx")["label"].tolist() == ["bell\ufffd"]


@pytest.mark.parametrize("text", ["label\n", "label,language\n"])
def test_a_table_without_rows_is_refused(tmp_path: Path, text: str):
    (tmp_path / "in.csv").write_text(text, encoding="utf-8")
    with pytest.raises(BadWorkbookError, match="has no rows below its header"):
        score(tmp_path / "in.csv", tmp_path / "out.csv")


def test_two_language_columns_are_refused(tmp_path: Path):
    (tmp_path / "in.csv").write_text("label,language,LANGUAGE\na,en,en\n", encoding="utf-8")
    with pytest.raises(BadWorkbookError, match="at most one 'language'"):
        score(tmp_path / "in.csv", tmp_path / "out.csv")


def test_a_target_that_is_a_folder_is_refused_before_scoring(source: Path):
    (source.parent / "folder.csv").mkdir()
    with pytest.raises(BadWorkbookError, match="is a folder"):
        score(source, source.parent / "folder.csv")
