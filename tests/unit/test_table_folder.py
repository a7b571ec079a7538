from collections.abc import Sequence
from pathlib import Path

import pytest

from cli.main import main
from make_data.workbook import Row, write_workbook
from pii_finetune.config import DataConfig
from pii_finetune.data_report import bad_cells, render_html
from pii_finetune.errors import BadWorkbookError
from pii_finetune.records import fingerprint
from pii_finetune.source_mark import source_mark
from pii_finetune.table_folder import SUFFIXES, tables_among
from pii_finetune.tables import open_table
from pii_finetune.validation import problem_line, validate
from pii_finetune.workbook import read_workbook


def settings(source: object, **changes: object) -> DataConfig:
    return DataConfig(workbook=str(source), validation_fraction=0.1, test_fraction=0.2, seed=0, **changes)


def write_csv(path: Path, rows: Sequence[tuple[str, ...]], header: str = "label,language,sensitive") -> Path:
    path.write_text("\n".join([header, *(",".join(row) for row in rows)]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path, small_rows: list[Row]) -> Path:
    """The rows of a workbook in three files of three kinds."""
    made = tmp_path / "tables"
    made.mkdir()
    write_workbook(small_rows[:50], made / "b.xlsx")
    write_csv(made / "a.csv", [row[:3] for row in small_rows[50:100]])
    write_csv(made / "c.TSV", [row[:3] for row in small_rows[100:]])
    return made


def test_a_folder_is_one_dataset_whose_rows_are_those_of_its_files_in_the_order_of_their_names(
    folder: Path, tmp_path: Path, small_rows: list[Row]
):
    whole = tmp_path / "whole.xlsx"
    write_workbook(small_rows, whole)
    report = validate(read_workbook(settings(folder)), None).require_valid()
    assert report.fingerprint == validate(read_workbook(settings(whole)), None).require_valid().fingerprint
    files = [str(record.row).partition(" of ")[2] for record in report.records]
    assert files == sorted(files)
    assert set(files) == {"a.csv", "b.xlsx", "c.TSV"}
    assert report.records[0].row == "2 of a.csv"
    assert report.where == str(folder)


def test_messages_name_the_file_and_the_row_in_it(folder: Path, tmp_path: Path):
    for name, rows in (("a.csv", (4, 12)), ("c.TSV", (3,))):
        lines = (folder / name).read_text(encoding="utf-8").splitlines()
        for row in rows:
            lines[row - 1] = "some label,English,perhaps"
        (folder / name).write_text("\n".join(lines), encoding="utf-8")
    report = validate(read_workbook(settings(folder)), tmp_path / "docs")
    (problem,) = report.problems
    assert problem_line(problem).startswith("column 'sensitive', rows 4, 12 of a.csv; 3 of c.TSV ('perhaps'): ")
    assert [cell.row for cell in bad_cells(report)] == ["4 of a.csv", "12 of a.csv", "3 of c.TSV"]
    assert "12 of a.csv" in render_html(report, ())
    assert any("Rows: 4, 12 of a.csv; 3 of c.TSV" in page.read_text() for page in (tmp_path / "docs").rglob("*.html"))


def test_advice_and_copies_are_told_by_file_too(folder: Path, small_rows: list[Row]):
    write_csv(folder / "d.csv", [small_rows[0][:3]])  # as in b.xlsx
    report = validate(read_workbook(settings(folder)), None, advice_seed=0)
    assert [copy.row for copy in report.copies] == ["2 of d.csv"]
    (duplicates,) = [each for each in report.advice if each.kind == "exact_duplicates"]
    assert duplicates.rows == ("2 of d.csv",)


def test_hidden_temporary_and_unknown_files_are_left_alone_and_named(folder: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("~$b.xlsx", ".~lock.b.xlsx#", "upload.csv.part", "x.tmp", "notes.txt"):
        (folder / name).write_bytes(b"no table")
    (folder / "old").mkdir()
    assert main(["validate", str(folder)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "not read (hidden or temporary): .~lock.b.xlsx#, upload.csv.part, x.tmp, ~$b.xlsx" in shown
    assert "not read (of no kind that is read): notes.txt, old/" in shown


def test_a_folder_without_tables_is_refused_in_one_line_that_says_what_is_there(tmp_path: Path):
    with pytest.raises(BadWorkbookError, match=r"holds no table \(it is empty\); put \.xlsx"):
        read_workbook(settings(tmp_path))
    (tmp_path / "~$b.xlsx").touch()
    with pytest.raises(BadWorkbookError, match=r"holds no table \(not read \(hidden or temporary\): ~\$b.xlsx\)"):
        source_mark(str(tmp_path))


def test_a_bad_file_is_refused_by_its_own_name(folder: Path):
    write_csv(folder / "d.csv", [("first name", "English")], "label,language")
    with pytest.raises(BadWorkbookError, match=r"d\.csv: has no column 'sensitive'"):
        read_workbook(settings(folder))


def test_the_limit_of_rows_is_for_all_files_together(folder: Path):
    with pytest.raises(BadWorkbookError, match=r"tables: has more rows than data.max_rows = 150"):
        read_workbook(settings(folder, max_rows=150))


def test_a_folder_is_another_one_when_a_table_is_written_added_or_gone_and_not_when_one_is_opened(folder: Path):
    marks = [source_mark(str(folder))]
    (folder / "~$b.xlsx").touch()
    assert source_mark(str(folder)) == marks[0]
    write_csv(folder / "d.csv", [("first name", "English", "yes")])
    marks.append(source_mark(str(folder)))
    write_csv(folder / "d.csv", [("first name", "English", "no"), ("x", "English", "no")])
    marks.append(source_mark(str(folder)))
    (folder / "a.csv").unlink()
    marks.append(source_mark(str(folder)))
    assert len(set(marks)) == 4


def test_a_column_that_only_one_file_has_is_read_there_and_extra_columns_are_those_of_all(tmp_path: Path):
    rows = [(f"label {at}", "English", "yes" if at % 2 else "no") for at in range(20)]
    write_csv(tmp_path / "a.csv", rows)
    header = "label,language,sensitive,category,owner"
    write_csv(tmp_path / "b.csv", [(*row, "names", "me") for row in rows[:1]], header)
    table = read_workbook(settings(tmp_path))
    assert table.extra_columns == ("owner",)
    assert table.rows["category"].tolist() == [None] * 20 + ["names"]
    assert fingerprint(validate(table, None).records) == fingerprint(
        validate(read_workbook(settings(tmp_path / "a.csv")), None).records
    )


def test_every_kind_that_is_looked_for_has_a_reader(tmp_path: Path):
    assert tables_among(["x.exe"]) == ((), ("not read (of no kind that is read): x.exe",))
    for suffix in SUFFIXES:
        open_table(tmp_path / f"table{suffix}", settings(tmp_path))
