"""Typed cells of spreadsheets made by hand, whose value is not of their type."""

import zipfile
from pathlib import Path

import pytest
from openpyxl import Workbook

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError
from pii_finetune.table_copy import copy_table
from pii_finetune.tables import read_table
from pii_finetune.validation import validate
from pii_finetune.workbook import read_workbook

SHEET = "xl/worksheets/sheet1.xml"
HEADER = ("label", "language", "sensitive")
GOOD = [(f"label {at}", "English", "yes" if at % 2 else "no") for at in range(30)]  # rows 2 to 31
INLINE = '<c t="inlineStr"><is><t>{}</t></is></c>'
STRING = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'


def settings(path: Path, **changes: object) -> DataConfig:
    return DataConfig(workbook=str(path), validation_fraction=0.1, test_fraction=0.2, seed=0, **changes)


def write_xlsx(path: Path, *labels: str) -> Path:
    """Write a workbook whose rows from 32 have these cells as labels."""
    book = Workbook()
    for row in (HEADER, *GOOD):
        book.worksheets[0].append(row)
    book.save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    rows = "".join(f"<row>{cell}{INLINE.format('English')}{INLINE.format('no')}</row>" for cell in labels)
    parts[SHEET] = parts[SHEET].replace(b'<dimension ref="A1:C31" />', b"")
    parts[SHEET] = parts[SHEET].replace(b"</sheetData>", rows.encode() + b"</sheetData>")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def write_ods(path: Path, *labels: str) -> Path:
    """Write a spreadsheet whose rows from 32 have these cells as labels."""
    rows = [[STRING.format(cell) for cell in row] for row in (HEADER, *GOOD)]
    rows += [[cell, STRING.format("English"), STRING.format("no")] for cell in labels]
    lines = "".join(f"<table:table-row>{''.join(row)}</table:table-row>" for row in rows)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", "<manifest/>")
        archive.writestr(
            "content.xml",
            '<office:document-content xmlns:office="o" xmlns:table="t" xmlns:text="x"><office:body>'
            f'<office:spreadsheet><table:table table:name="labels">{lines}</table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        )
    return path


def ods_cell(attributes: str, text: str = "shown") -> str:
    return f"<table:table-cell {attributes}><text:p>{text}</text:p></table:table-cell>"


def kinds(path: Path) -> list[tuple[str, str]]:
    """Return kind and text of the labels from row 32."""
    return [
        (row["label_kind"], row["label"])
        for row in read_table(path, settings(path)).rows.to_pylist()
        if row["row"] >= 32
    ]


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("<c><v>abc</v></c>", "abc"),  # a number
        ("<c><v>NaN</v></c>", "NaN"),
        ("<c><v>1e999</v></c>", "1e999"),
        ('<c t="d"><v>2020-99-99</v></c>', "2020-99-99"),
        ('<c t="d"><v>soon</v></c>', "soon"),
        ('<c t="inlineStr"><v>in the wrong element</v></c>', None),
        ("<c><is><t>text of a number</t></is></c>", "text of a number"),
        ('<c t="str"><v>one</v><v>two</v></c>', "two"),
    ],
)
def test_an_xlsx_cell_that_does_not_hold_what_its_type_says_is_no_label(tmp_path: Path, cell: str, shown: str | None):
    assert kinds(write_xlsx(tmp_path / "book.xlsx", cell)) == [("unclear", shown)]


@pytest.mark.parametrize(
    ("attributes", "shown"),
    [
        ('office:value-type="date" office:date-value="2020-99-99"', "2020-99-99"),
        ('office:value-type="boolean" office:boolean-value="7"', "7"),
        ('office:value-type="time" office:time-value="abc"', "abc"),
        ('office:value-type="float" office:value="NaN"', "NaN"),
        ('office:value-type="float"', "float"),
        ('office:value-type="tensor" office:value="5"', "tensor 5"),
        ('office:value-type="string" office:value="1"', "string 1"),
        ('office:value="1"', "1"),
        ("", "shown"),
        ('office:value-type="void"', "shown"),
    ],
)
def test_an_ods_cell_that_does_not_hold_what_its_type_says_is_no_label(tmp_path: Path, attributes: str, shown: str):
    assert kinds(write_ods(tmp_path / "book.ods", ods_cell(attributes))) == [("unclear", shown)]


def test_cells_that_hold_what_their_type_says_stay_what_they_are(tmp_path: Path):
    assert kinds(
        write_xlsx(
            tmp_path / "book.xlsx",
            "<c><v>-1.5E+3</v></c>",
            '<c t="b"><v>true</v></c>',
            '<c t="d"><v>2026-01-31T10:00:00Z</v></c>',
            "<c><v></v></c>",
            '<c t="str"><v>text</v></c>',
        )
    ) == [("number", "-1500"), ("boolean", "True"), ("date", "2026-01-31T10:00:00Z"), ("empty", None), ("text", "text")]
    assert kinds(
        write_ods(
            tmp_path / "book.ods",
            ods_cell('office:value-type="percentage" office:value="0.5"'),
            ods_cell('office:value-type="boolean" office:boolean-value="false"'),
            ods_cell('office:value-type="time" office:time-value="PT99H5M"'),
            ods_cell('office:value-type="string" office:string-value="text"'),
            "<table:table-cell><office:annotation><text:p>a comment</text:p></office:annotation></table:table-cell>",
        )
    ) == [("number", "0.5"), ("boolean", "False"), ("date", "PT99H5M"), ("text", "text"), ("empty", None)]


def test_impossible_cells_are_reported_by_row_with_the_remedy(tmp_path: Path):
    path = write_xlsx(tmp_path / "book.xlsx", INLINE.format("good"), '<c t="d"><v>2020-99-99</v></c>')
    (problem,) = validate(read_workbook(settings(path)), None).problems
    assert (problem.column, problem.rows, problem.found) == ("label", (33,), ("'2020-99-99'",))
    assert "it is not what its type says" in problem.message
    assert "type what was meant" in problem.message


def test_an_ods_answer_of_an_impossible_boolean_is_not_taken_for_no(tmp_path: Path):
    answer = ods_cell('office:value-type="boolean" office:boolean-value="7"')
    path = write_ods(tmp_path / "book.ods", f"{STRING.format('x')}{STRING.format('en')}{answer}")
    (problem,) = validate(read_workbook(settings(path)), None).problems
    assert (problem.column, problem.rows, problem.found) == ("sensitive", (32,), ("'7'",))


def test_rows_of_which_the_fast_reader_sees_nothing_are_not_lost(tmp_path: Path):
    unseen = '<c t="inlineStr"><v>x</v></c>'
    path = write_xlsx(tmp_path / "book.xlsx", f"{unseen * 3}</row><row>{unseen * 3}</row><row hidden='1'>")
    assert kinds(path)[:2] == [("unclear", None)] * 2


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ('<c t="n"><v>abc</v></c>', "abc"),
        ('<c t="b"><v>7</v></c>', "7"),
        ('<c t="s"><v>999999</v></c>', "999999"),  # no such text
        ('<c t="s"><v>-1</v></c>', "-1"),
        ('<c t="e"><v>#SPILL!</v></c>', "#SPILL!"),
        ('<c t="tensor"><v>1</v></c>', "1"),
    ],
)
def test_where_the_fast_reader_gives_up_the_cell_is_named(tmp_path: Path, cell: str, shown: str):
    path = write_xlsx(tmp_path / "book.xlsx", INLINE.format("good"), cell)
    with pytest.raises(BadWorkbookError, match="hold what their type cannot be") as caught:
        read_table(path, settings(path))
    assert f"sheet 'Sheet', row 33, column A ('{shown}'); type what was meant" in str(caught.value)


def test_where_the_fast_reader_of_ods_gives_up_the_cell_is_named(tmp_path: Path):
    path = write_ods(tmp_path / "book.ods", ods_cell('office:value-type="float" office:value="many"'))
    with pytest.raises(BadWorkbookError, match=r"sheet 'labels', row 32, column A \('many'\)"):
        read_table(path, settings(path))


def test_a_number_at_which_the_fast_reader_panics_is_named(tmp_path: Path):
    path = write_xlsx(tmp_path / "book.xlsx", '<c s="1"><v>-1e300</v></c>')
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    date = b'<xf numFmtId="14" fontId="0" fillId="0" borderId="0"/></cellXfs>'
    parts["xl/styles.xml"] = parts["xl/styles.xml"].replace(b"</cellXfs>", date)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(BadWorkbookError, match=r"row 32, column A \('-1e300'\)"):
        read_table(path, settings(path))


def test_an_ods_label_that_a_tab_splits_is_not_read_as_one_word(tmp_path: Path):
    path = write_ods(tmp_path / "book.ods", STRING.format("first<text:tab/>name"))
    assert kinds(path) == [("unclear", "firstname")]


def test_a_cell_on_which_programs_differ_is_not_scored(tmp_path: Path):
    path = write_xlsx(tmp_path / "book.xlsx", INLINE.format("good"), '<c t="d"><v>2020-99-99</v></c>')
    with pytest.raises(BadWorkbookError, match="column 'label': the label in row 33: programs differ on what the cell"):
        copy_table(path, settings(path), False, tmp_path / "out.arrow")
