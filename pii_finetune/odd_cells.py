"""Which cells made the fast reader of spreadsheets give up; it names none."""

import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.parsers import expat

from python_calamine import CalamineError

from pii_finetune.archive import parse_part
from pii_finetune.errors import BadWorkbookError
from pii_finetune.excerpts import escape_cell
from pii_finetune.ods_scan import scan_table
from pii_finetune.xlsx_scan import scan_sheet

_NUM_SHOWN = 5
# Those that calamine takes; newer ones (#SPILL!) spreadsheet programs store as one of these.
_KNOWN_ERRORS = ("#NULL!", "#DIV/0!", "#VALUE!", "#REF!", "#NAME?", "#NUM!", "#N/A")

OddCell = tuple[str, int, str]  # sheet; row * 2**14 + column, both from 0; what it holds


@contextmanager
def named_if_odd(path: Path, find: Callable[[], Iterable[OddCell]]) -> Iterator[None]:
    """Turn the reader's refusal, or its panic, into one that names the cells that `find` holds responsible.

    Raises:
        BadWorkbookError: whenever the reader gave up.
    """
    try:
        yield
    except BaseException as error:
        if not isinstance(error, CalamineError) and type(error).__name__ != "PanicException":  # Rust's, no Exception
            raise
        raise BadWorkbookError(_message(path, error, list(find()))) from None


def odd_cells_of_xlsx(path: Path, archive: zipfile.ZipFile, sheet: str, max_rows: int) -> Iterator[OddCell]:
    """Yield cells whose value is not of their type, or no number of a text in the table of texts; unknown errors."""
    scan = scan_sheet(path, archive, sheet, max_rows, _count_texts(path, archive))
    for cell in scan.unclear:
        yield sheet, cell, scan.texts.get(cell, "")
    for cell in scan.errors:
        if (text := scan.texts.get(cell, "#N/A")) not in _KNOWN_ERRORS and not text.startswith("="):
            yield sheet, cell, text


def odd_cells_of_ods(path: Path, archive: zipfile.ZipFile, max_rows: int) -> Iterator[OddCell]:
    """Yield cells of any table whose value is not of their type."""
    tables: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == "table:table" and len(tables) < 100:
            tables.append(attributes.get("table:name", ""))

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parse_part(path, archive, "content.xml", parser)
    for table in tables:
        scan = scan_table(path, archive, table, max_rows)
        yield from ((table, cell, scan.texts.get(cell, "")) for cell in scan.unclear)


def _count_texts(path: Path, archive: zipfile.ZipFile) -> int:
    num_texts = 0

    def start(name: str, _attributes: dict[str, str]) -> None:
        nonlocal num_texts
        num_texts += name.rpartition(":")[2] == "si"

    for part in archive.namelist():
        if part.lower() == "xl/sharedstrings.xml":
            parser = expat.ParserCreate()
            parser.StartElementHandler = start
            parse_part(path, archive, part, parser)
    return num_texts


def _message(path: Path, error: BaseException, found: list[OddCell]) -> str:
    if not found:
        return (
            f"{path}: cannot be read as a workbook ({escape_cell(str(error), 200)}); "
            "open it in a spreadsheet program and save it as .xlsx"
        )
    shown = ", ".join(_place(*each) for each in found[:_NUM_SHOWN])
    more = f" and {len(found) - _NUM_SHOWN:,} more" if len(found) > _NUM_SHOWN else ""
    return (
        f"{path}: cannot be read as a workbook, for these cells hold what their type cannot be: {shown}{more}; "
        "type what was meant in a spreadsheet program, and save it again"
    )


def _place(sheet: str, cell: int, text: str) -> str:
    row, column = divmod(cell, 1 << 14)
    letters = ""
    column += 1
    while column:
        column, letter = divmod(column - 1, 26)
        letters = chr(65 + letter) + letters
    return f"sheet {sheet!r}, row {row + 1}, column {letters} ({escape_cell(text)})"
