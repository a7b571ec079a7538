"""Delimited text that is broken names the line."""

from pathlib import Path

import pytest

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError
from pii_finetune.tables import FoundTable, read_table

HEADER = b"label,language,sensitive\n"
GOOD = b"".join(b"label %d,English,yes\n" % at for at in range(20_000))  # lines 2 to 20,001, larger than any buffer


def read(path: Path) -> FoundTable:
    config = DataConfig(workbook=str(path), validation_fraction=0.1, test_fraction=0.2, seed=0)
    return read_table(path, config)


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(BadWorkbookError) as caught:
        read(path)
    return str(caught.value)


def test_a_byte_that_is_not_utf8_is_shown_with_its_line(tmp_path: Path):
    message = refusal(tmp_path / "book.csv", HEADER + GOOD + "Stra\xdfe,German,yes\nx,de,no\n".encode("latin-1"))
    assert r"line 20,002 ('Stra\xdfe,German,yes') has a byte that is not UTF-8; save it as 'CSV UTF-8'" in message


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_lines_are_counted_as_the_editor_counts_them(tmp_path: Path, end: str):
    lines = (HEADER + GOOD + b"\xe9t\xe9,French,no\n").replace(b"\n", end.encode())
    assert "line 20,002 (" in refusal(tmp_path / "book.csv", lines)


def test_a_half_character_of_utf16_is_told_with_its_line(tmp_path: Path):
    content = (HEADER + GOOD).decode().encode("utf-16") + b"\x00\xd8" + "x\n".encode("utf-16-le")
    assert "line 20,002 (" in refusal(tmp_path / "book.csv", content)


def test_a_quote_that_is_never_closed_is_shown_with_its_line(tmp_path: Path):
    message = refusal(tmp_path / "book.csv", HEADER + b'"fine",de,no\n"open,de,no\n' + GOOD[:1000])
    assert (
        "line 3 ('\"open,de,no'): a quote that is opened there is never closed; close it, or write a quote" in message
    )


def test_a_quote_that_swallows_a_large_file_is_shown_with_its_line(tmp_path: Path):
    message = refusal(tmp_path / "book.csv", HEADER + b'"open,de,no\n' + GOOD)
    assert "line 2 ('\"open,de,no'): a cell that begins there has more than 131,072 characters" in message


def test_text_after_a_closing_quote_is_shown_with_its_line(tmp_path: Path):
    message = refusal(tmp_path / "book.csv", HEADER + b'a,de,no\nb,"de"x,no\n')
    assert "line 3 ('b,\"de\"x,no'): text follows a quote that closes a cell" in message


def test_a_broken_header_is_shown(tmp_path: Path):
    assert "line 1 ('\"label,language" in refusal(tmp_path / "book.csv", b'"label,language,sensitive\na,b,c\n')


def test_rows_that_run_over_several_lines_are_told(tmp_path: Path):
    path = tmp_path / "book.csv"
    path.write_bytes(HEADER + b'a,de,no\n"b\nc",de,no\nd,de,no\n"e\n\nf",de,no\n')
    table = read(path)
    assert table.rows["row"].to_pylist() == [2, 3, 5, 6]
    (note,) = table.notes
    assert "2 rows run over several lines, the first from line 3" in note
