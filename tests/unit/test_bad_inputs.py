"""Files that come by mail: each gets an answer that names the file, what is wrong and what to do."""

import datetime as dt
import os
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openpyxl import Workbook, load_workbook

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError
from pii_finetune.validation import ValidationReport, validate
from pii_finetune.workbook import read_workbook

HEADER = ("label", "language", "sensitive")
GOOD = [(f"label {at}", "English", "yes" if at % 2 else "no") for at in range(30)]  # rows 2 to 31
SHEET = "xl/worksheets/sheet1.xml"


def settings(path: Path, **changes: object) -> DataConfig:
    return DataConfig(workbook=str(path), validation_fraction=0.1, test_fraction=0.2, seed=0, **changes)


def write(path: Path, *rows: Sequence[object]) -> Path:
    book = Workbook()
    sheet = book.worksheets[0]
    for row in (HEADER, *GOOD, *rows):
        sheet.append([*row])
    book.save(path)
    return path


def repack(path: Path, change: Callable[[dict[str, bytes]], None], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    change(parts)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def refusal(path: Path, **changes: object) -> str:
    with pytest.raises(BadWorkbookError) as caught:
        read_workbook(settings(path, **changes))
    assert str(path) in str(caught.value)
    return str(caught.value)


def report_on(path: Path, **changes: object) -> ValidationReport:
    config = settings(path, **changes)
    return validate(read_workbook(config), None, config)


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return write(tmp_path / "book.xlsx")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(book: Path):
    repack(book, lambda parts: parts.update({"xl/media/bomb.xml": b" " * 60_000_000}))
    assert "zip bomb" in refusal(book)


def test_xml_that_declares_entities_is_refused(book: Path):
    def declare(parts: dict[str, bytes]) -> None:
        bomb = b'<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]>'
        parts[SHEET] = parts[SHEET].replace(b"<worksheet", bomb + b"<worksheet", 1)

    assert "declares a document type" in refusal(repack(book, declare))


def test_a_dimension_that_hides_rows_is_refused(book: Path):
    def lie(parts: dict[str, bytes]) -> None:
        parts[SHEET] = parts[SHEET].replace(b'<dimension ref="A1:C31"', b'<dimension ref="A1:C4"')

    message = refusal(repack(book, lie))
    assert "says that it ends at row 4, but has cells down to row 31" in message


def test_more_rows_than_the_limit_are_refused(book: Path):
    assert "has more rows than data.max_rows = 10" in refusal(book, max_rows=10)


def test_a_cell_far_from_the_table_is_refused_without_using_the_memory(book: Path):
    workbook = load_workbook(book)
    workbook.worksheets[0]["XFD1000000"] = "x"
    workbook.save(book)
    assert "delete what stands far from the table" in refusal(book)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("book.xlsx", b"", "is empty"),
        ("book.xlsx", b"label,language,sensitive\na,English,yes\n", "first bytes are of another kind"),
        ("book.xlsx", bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600), "protected by a password or an old .xls"),
        ("book.ods", b"not a zip", "first bytes are of another kind"),
        ("book.parquet", b"PAR1 and no more", "cannot be read as a Parquet file"),
        ("book.csv", b"", "is empty"),
        ("book.csv", b"PK\x03\x04", "is no text"),
        ("book.csv", "label,language,sensitive\na,b,c\n".encode("utf-16-le"), "line 1 holds a byte 0"),
        ("book.csv", "label,language,sensitive\na,b,c\n".encode("utf-32"), "line 1 holds a byte 0"),
        ("book.csv", b"label,language,sensitive\na\0b,en,no\n", "line 2 holds a byte 0; save it as 'CSV UTF-8'"),
        ("book.csv", b"x" * 200_000, "line 1 ('xxx"),
        ("book.csv", b"label~language~sensitive\n", "cells are separated by a comma, a semicolon, a tab or |"),
        ("book.csv", b"label,language,sensitive\na,b,c,d\n", "line 2 has 4 cells"),
        ("book.doc", b"?", "is of no kind that can be read"),
        ("book", b"?", "no ending"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path, name: str, content: bytes, reason: str):
    (tmp_path / name).write_bytes(content)
    assert reason in refusal(tmp_path / name)


def test_an_ods_renamed_to_xlsx_is_refused(tmp_path: Path):
    path = tmp_path / "book.xlsx"
    pd.DataFrame(GOOD, columns=[*HEADER]).to_csv(tmp_path / "x.csv")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", "<a/>")
    assert "the part 'xl/workbook.xml' is missing" in refusal(path)


@pytest.mark.parametrize(
    ("part", "reason"),
    [("xl/vbaProject.bin", "contains macros"), ("xl/externalLinks/externalLink1.xml", "links to other workbooks")],
)
def test_macros_and_links_to_other_workbooks_are_refused(book: Path, part: str, reason: str):
    assert reason in refusal(repack(book, lambda parts: parts.update({part: b"<a/>"})))


def test_two_parts_of_one_name_are_refused(book: Path):
    assert "holds two parts named" in refusal(repack(book, lambda parts: parts.update({SHEET.upper(): parts[SHEET]})))


def test_an_archive_with_a_password_is_refused(book: Path):
    content = bytearray(book.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # every local header, every entry of the directory
        at = -1
        while (at := content.find(mark, at + 1)) >= 0:
            content[at + flags] |= 1
    book.write_bytes(content)
    assert "is protected by a password; save it without one" in refusal(book)


def test_rows_out_of_order_are_refused(book: Path):
    def swap(parts: dict[str, bytes]) -> None:
        parts[SHEET] = parts[SHEET].replace(b'<row r="9"', b'<row r="3"')

    assert "row '3' is written out of its place" in refusal(repack(book, swap))


def test_rows_that_one_reader_drops_are_refused(book: Path, tmp_path: Path):
    def add_table(parts: dict[str, bytes]) -> None:
        more = b"</sheetData><sheetData><row><c t='str'><v>lost</v></c></row></sheetData>"
        parts[SHEET] = parts[SHEET].replace(b"</sheetData>", more)

    assert "holds two tables of cells, of which readers take one" in refusal(repack(book, add_table))

    def add_cdata(parts: dict[str, bytes]) -> None:
        parts["content.xml"] = parts["content.xml"].replace(b"label 3", b"<![CDATA[label]]> 3")

    ods = write_ods(tmp_path / "book.ods", [HEADER, *GOOD])
    assert "the text near row 5 is written as CDATA, which readers drop" in refusal(repack(ods, add_cdata))


def test_two_sheets_of_one_name_are_refused(book: Path, tmp_path: Path):
    workbook = load_workbook(book)
    workbook.create_sheet("other")
    workbook.save(book)
    name = workbook.worksheets[0].title.encode()

    def rename(parts: dict[str, bytes]) -> None:
        parts["xl/workbook.xml"] = parts["xl/workbook.xml"].replace(b'name="other"', b'name="' + name + b'"')

    assert f"has several sheets named {name.decode()!r}" in refusal(repack(book, rename))
    ods = write_ods(tmp_path / "book.ods", [HEADER, *GOOD])

    def add(parts: dict[str, bytes]) -> None:
        end = b"</table:table>"
        parts["content.xml"] = parts["content.xml"].replace(end, end + b'<table:table table:name="labels"/>')

    assert "has several sheets named 'labels'" in refusal(repack(ods, add))


@pytest.mark.parametrize("encoding", ["UTF-16", "ISO-8859-1"])
def test_a_sheet_in_another_encoding_is_refused_for_readers_differ_on_it(book: Path, encoding: str):
    def encode(parts: dict[str, bytes]) -> None:
        text = parts[SHEET].decode().rpartition("?>")[2]
        parts[SHEET] = f'<?xml version="1.0" encoding="{encoding}"?>{text}'.encode(encoding)

    assert f"is written in '{encoding}', of which readers make different texts" in refusal(repack(book, encode))


def test_a_sheet_of_which_one_reader_sees_nothing_is_refused(book: Path):
    def encode(parts: dict[str, bytes]) -> None:
        parts[SHEET] = parts[SHEET].decode().rpartition("?>")[2].encode("utf-16")

    assert "two readers do not agree on row 31" in refusal(repack(book, encode))


def test_a_table_that_is_not_on_the_first_sheet_is_told_to_be_named(book: Path):
    workbook = load_workbook(book)
    cover = workbook.create_sheet("cover", 0)
    workbook.save(book)
    remedy = "if the table is on another sheet, name it with data.sheet: 'Sheet'"
    assert f"is empty; the first row must name the columns; {remedy}" in refusal(book)
    cover["A1"] = "Labels of 2026"
    workbook.save(book)
    assert remedy in refusal(book)


def test_a_missing_workbook_part_is_told(book: Path):
    assert "is missing" in refusal(repack(book, lambda parts: parts.pop("xl/workbook.xml") and None))


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "book.xlsx")
    assert "is not a file" in refusal(tmp_path / "book.xlsx")


def test_a_reader_that_takes_too_long_is_stopped(book: Path):
    assert "could not be read within data.read_timeout_seconds = 0.01" in refusal(book, read_timeout_seconds=0.01)


def test_a_file_that_needs_more_memory_than_allowed_is_refused(tmp_path: Path):
    path = tmp_path / "book.csv"
    path.write_text("label,language,sensitive\n" + "".join(f"{'x' * 900} {at},English,no\n" for at in range(500_000)))
    assert "needs more memory to read than data.read_memory_mib = 512" in refusal(path, read_memory_mib=512)


def test_formulas_are_named_with_and_without_a_stored_value(book: Path):
    workbook = load_workbook(book)
    workbook.worksheets[0].append(["=A2", "English", "no"])
    workbook.save(book)
    (problem,) = report_on(book).problems
    assert (problem.column, problem.rows, problem.found) == ("label", (32,), ("'=A2'",))
    assert "the cell is a formula" in problem.message

    def store_a_value(parts: dict[str, bytes]) -> None:
        assert b"<f>A2</f><v" in parts[SHEET]
        parts[SHEET] = parts[SHEET].replace(b"<f>A2</f><v />", b"<f>A2</f><v>7</v>")

    (problem,) = report_on(repack(book, store_a_value)).problems
    assert "the cell is a formula" in problem.message
    assert problem.found == ("'=A2'",)


def test_formulas_and_errors_are_shown_as_the_sheet_has_them(book: Path):
    workbook = load_workbook(book)
    for row in (
        ['=IF(A2>"a&b", "<x>", "y")', "=B2", "no"],  # 32
        ["#N/A", "#REF!", "no"],
        ["=" + "+".join(["A2"] * 90), "English", "no"],
        ["=A3", "English", "no"],  # 35: made to share a formula below
    ):
        workbook.worksheets[0].append(row)
    workbook.save(book)

    def share(parts: dict[str, bytes]) -> None:
        assert b"<f>A3</f>" in parts[SHEET]
        parts[SHEET] = parts[SHEET].replace(b"<f>A3</f>", b'<f t="shared" si="0"/>')

    found = {p.expectation: dict(zip(p.rows, p.found, strict=True)) for p in report_on(repack(book, share)).problems}
    assert found == {
        "label_formula": {32: '\'=IF(A2>"a&b", "<x>", "y")\'', 34: f"'{('=' + 'A2+' * 90)[:40]}…'", 35: "'=…'"},
        "label_error": {33: "'#N/A'"},
        "language_formula": {32: "'=B2'"},
        "language_error": {33: "'#REF!'"},
    }


def test_errors_merged_cells_and_values_that_are_no_text_are_named(book: Path):
    workbook = load_workbook(book)
    sheet = workbook.worksheets[0]
    for row in (
        ["#N/A", "English", "no"],  # 32
        ["#DIV/0!", "English", "no"],
        [True, "English", "no"],
        [dt.date(2026, 1, 1), "English", "no"],  # 35
        [12345, "English", "no"],
        ["merged", "English", "no"],
        [None, "English", "no"],
    ):
        sheet.append(row)
    sheet.merge_cells("A37:A38")
    workbook.save(book)
    found = {problem.message.split(";")[0]: problem.rows for problem in report_on(book).problems}
    assert found == {
        "the cell holds a spreadsheet error such as #N/A": (32, 33),
        "a label must be text, not a number, date or boolean": (34, 35, 36),
        "the cell is part of a merged area, so its row is unclear": (37, 38),
    }


def test_letters_that_pose_as_latin_ones_are_named(tmp_path: Path):
    rows = [
        ("\u0440assport", "English", "yes"),  # 32: Cyrillic er
        ("\u0441\u043e\u0440\u0443", "English", "no"),  # 33: copy in Cyrillic lookalikes
        ("паспорт", "Russian", "yes"),
        ("kΩ value", "English", "no"),
    ]
    (problem,) = report_on(write(tmp_path / "book.xlsx", *rows)).problems
    assert (problem.column, problem.rows) == ("label", (32, 33))
    assert problem.found[0] == "'\u0440assport' (\u0440 U+0440 CYRILLIC)"


def test_what_a_person_would_put_right_is_put_right_and_counted(tmp_path: Path):
    rows = [
        (" cafe\u0301\u00a0name ", "français", "oui"),
        ("two\r\nlines", "de", "Nein"),
        ("zero\u200bwidth", "Hindi", "हाँ"),
        ("zero\u200bwidth", "Hindi", True),
        ("क्\u200dष", "hi", 0),
        ("👩\u200d⚕️ name", "es", "SÍ"),
    ]
    report = report_on(write(tmp_path / "book.xlsx", *rows))
    assert [(r.label, r.language, r.answer) for r in report.require_valid().records[30:]] == [
        ("café name", "French", "yes"),
        ("two lines", "German", "no"),
        ("zerowidth", "Hindi", "yes"),
        ("क्\u200dष", "Hindi", "no"),
        ("👩\u200d⚕️ name", "Spanish", "yes"),
    ]
    assert report.num_duplicates == 1
    assert report.normalised == {
        "labels with invisible characters removed": 2,
        "labels composed to NFC": 1,
        "labels with spaces or line breaks put right": 2,
        "languages written by their English names": 4,
        "answers written as yes or no": 6,
    }


def test_hidden_rows_and_sheets_are_told(book: Path):
    workbook = load_workbook(book)
    workbook.worksheets[0].row_dimensions[5].hidden = True
    workbook.create_sheet("secret").sheet_state = "hidden"
    workbook.save(book)
    report = report_on(book)
    assert len(report.require_valid().records) == 30
    assert [note.split(" are ")[0] for note in report.notes] == ["1 hidden sheets", "1 hidden rows"]


def test_bad_rows_are_dropped_only_when_asked_and_up_to_a_share(tmp_path: Path):
    path = write(tmp_path / "book.xlsx", ("x", "Klingon", "no"), (None, "English", "yes"))
    assert report_on(path).problems
    report = report_on(path, on_bad_row="drop", max_dropped_share=0.1)
    assert len(report.require_valid().records) == 30
    assert [problem.rows for problem in report.dropped] == [(33,), (32,)]
    assert report_on(path, on_bad_row="drop", max_dropped_share=0.05).problems


def test_dropping_rows_does_not_excuse_what_is_left(tmp_path: Path):
    path = tmp_path / "book.csv"
    rows = [(f"label {at}", "English", "yes") for at in range(40)] + [("one", "Klingon", "no")]
    pd.DataFrame(rows, columns=[*HEADER]).to_csv(path, index=False)
    report = report_on(path, on_bad_row="drop")
    assert report.records == ()
    assert any("both answers must occur" in problem.message for problem in report.problems)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimited_text_is_read_like_a_workbook(tmp_path: Path, delimiter: str, encoding: str):
    path = tmp_path / "book.csv"
    rows = [*GOOD, ("naïve; a, b", "French", "no")]
    pd.DataFrame(rows, columns=[*HEADER]).to_csv(path, index=False, sep=delimiter, encoding=encoding)
    assert [r.label for r in report_on(path).require_valid().records] == [label for label, _, _ in rows]


def test_every_kind_of_file_holds_the_same_rows(book: Path, tmp_path: Path):
    frame = pd.DataFrame(GOOD, columns=[*HEADER])
    frame.to_csv(tmp_path / "book.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "book.parquet")
    write_ods(tmp_path / "book.ods", [HEADER, *GOOD])
    fingerprints = {report_on(tmp_path / f"book{end}").fingerprint for end in (".xlsx", ".tsv", ".parquet", ".ods")}
    assert fingerprints == {report_on(book).fingerprint}


def test_formulas_and_repeated_rows_of_an_ods_are_seen(tmp_path: Path):
    rows = [HEADER, *GOOD, ("same", "English", "no"), ("=of:=1+1", "English", "no")]
    path = write_ods(tmp_path / "book.ods", rows, repeat={31: 3})
    report = report_on(path)
    assert report.num_rows == 34
    (problem,) = report.problems
    assert (problem.rows, problem.found) == ((35,), ("'=1+1'",))


def test_merged_cells_of_an_ods_are_named(tmp_path: Path):
    def merge(parts: dict[str, bytes]) -> None:
        first = b'<table:table-cell office:value-type="string"><text:p>label 3</text:p></table:table-cell>'
        second = first.replace(b"label 3", b"label 4")
        assert first in parts["content.xml"]
        spanning = first.replace(b"cell o", b'cell table:number-rows-spanned="2" o')
        parts["content.xml"] = parts["content.xml"].replace(first, spanning, 1)
        parts["content.xml"] = parts["content.xml"].replace(second, b"<table:covered-table-cell/>", 1)

    report = report_on(repack(write_ods(tmp_path / "book.ods", [HEADER, *GOOD]), merge))
    assert [problem.rows for problem in report.problems if "merged" in problem.message] == [(5, 6)]


def test_an_ods_with_a_table_in_a_cell_is_refused_for_readers_lose_the_rows_after_it(tmp_path: Path):
    def nest(parts: dict[str, bytes]) -> None:
        cell = b"<text:p>label 3</text:p>"
        assert cell in parts["content.xml"]
        parts["content.xml"] = parts["content.xml"].replace(
            cell, cell + b"<table:table><table:table-row/></table:table>"
        )

    path = repack(write_ods(tmp_path / "book.ods", [HEADER, *GOOD]), nest)
    assert "a cell near row 5 of a sheet holds a table of its own" in refusal(path)


def test_an_ods_that_repeats_a_row_without_end_is_refused_within_its_memory(tmp_path: Path):
    path = write_ods(tmp_path / "book.ods", [HEADER, *GOOD], repeat={30: 1_048_000})
    assert "has more rows than data.max_rows = 1,000,000" in refusal(path)

    def widen(parts: dict[str, bytes]) -> None:
        parts["content.xml"] = parts["content.xml"].replace(
            b"<table:table-cell", b'<table:table-cell table:number-columns-repeated="16000"'
        )

    assert "has more rows than data.max_rows" in refusal(repack(path, widen), read_memory_mib=1024)


def test_a_parquet_file_that_grows_when_read_is_refused_within_its_memory(tmp_path: Path):
    path = tmp_path / "book.parquet"
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 5_000, pa.int32()), pa.array(["x" * 1_000_000]))
    columns = {"label": texts, "language": ["en"] * 5_000, "sensitive": ["no"] * 5_000}
    pq.write_table(pa.table(columns), path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 10_000
    assert "needs more memory to read than data.read_memory_mib = 512" in refusal(path, read_memory_mib=512)


def test_a_workbook_as_google_sheets_exports_it_is_read(book: Path):
    """Its sheets state no dimension, share their strings, pad with formatted empty rows, and hold other sheets."""

    def export(parts: dict[str, bytes]) -> None:
        sheet = re.sub(rb"<dimension[^>]*/>", b"", parts[SHEET])
        empty = b"".join(b'<row r="%d"><c r="A%d" s="0"/><c r="B%d" s="0"/></row>' % (n, n, n) for n in range(32, 1001))
        parts[SHEET] = sheet.replace(b"</sheetData>", empty + b"</sheetData>")
        parts["xl/drawings/drawing1.xml"] = b'<xdr:wsDr xmlns:xdr="urn:drawing"/>'

    plain = report_on(book).require_valid()
    exported = report_on(repack(book, export)).require_valid()
    assert exported.fingerprint == plain.fingerprint
    assert exported.num_rows == 30


def test_rows_without_numbers_are_read_in_order(book: Path):
    def without_numbers(parts: dict[str, bytes]) -> None:
        parts[SHEET] = re.sub(rb'<(row|c) r="[A-Z]*[0-9]+"', rb"<\1", parts[SHEET])

    plain = report_on(book).require_valid()
    assert report_on(repack(book, without_numbers)).require_valid().records == plain.records


@pytest.mark.parametrize("ending", [".xlsx", ".ods", ".csv", ".parquet"])
def test_a_file_that_cannot_be_read_is_told(tmp_path: Path, ending: str):
    path = tmp_path / f"book{ending}"
    path.symlink_to("/proc/self/mem")  # whose first byte cannot be read by anyone
    reason = "as a Parquet file" if ending == ".parquet" else "(Input/output error)"  # Arrow asks for the size alone
    assert f"cannot be read {reason}" in refusal(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_told(book: Path):
    book.chmod(0)
    assert "cannot be read (Permission denied); check its permissions" in refusal(book)


def write_ods(path: Path, rows: Sequence[Sequence[str]], repeat: dict[int, int] | None = None) -> Path:
    """Write a small OpenDocument spreadsheet; `repeat` says how often a row (from 0) stands."""
    lines = []
    for at, row in enumerate(rows):
        cells = "".join(
            f'<table:table-cell table:formula="{cell[1:]}" office:value-type="float" office:value="2"/>'
            if cell.startswith("=")
            else f'<table:table-cell office:value-type="string"><text:p>{cell}</text:p></table:table-cell>'
            for cell in row
        )
        count = (repeat or {}).get(at, 1)
        lines.append(f'<table:table-row table:number-rows-repeated="{count}">{cells}</table:table-row>')
    names = "".join(
        f' xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text")
    )
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", kind)
        archive.writestr("META-INF/manifest.xml", "<manifest/>")
        archive.writestr(
            "content.xml",
            f"<office:document-content{names}><office:body><office:spreadsheet>"
            f'<table:table table:name="labels">{"".join(lines)}</table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        )
    return path
