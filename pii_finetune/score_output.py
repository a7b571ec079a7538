"""Writing a table piece by piece as .csv, .xlsx or .parquet, with cells that no spreadsheet runs."""

import csv
import json
import math
import re
import tempfile
from collections.abc import Iterable
from datetime import date, time
from pathlib import Path

import pyarrow as pa

from pii_finetune.errors import BadWorkbookError

MAX_XLSX_ROWS = 1_048_575  # below the header; the format has no more
_EXACT = 2**53  # whole numbers beyond it lose digits in a sheet
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")  # an .xlsx file cannot hold these
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def check_target(source: Path, target: Path) -> None:
    """Refuse a target that could not be written, before the work and not after it.

    Raises:
        BadWorkbookError: its ending says no kind, its folder is not there or not ours to write to, or it is the source.
    """
    if target.suffix not in _WRITERS:
        raise BadWorkbookError(f"--out {target}: the ending must be .csv, .xlsx or .parquet, which says what to write")
    if not target.parent.is_dir():
        raise BadWorkbookError(f"--out {target}: there is no folder {target.parent}; make it first")
    try:
        with tempfile.TemporaryFile(dir=target.parent):
            reason = "is a folder" if target.is_dir() else None
    except OSError as error:
        reason = f"nothing can be written to {target.parent} ({error.strerror})"
    if reason:
        raise BadWorkbookError(f"--out {target}: {reason}; name a file in a folder you can write to")
    if target.resolve() == source.resolve():
        raise BadWorkbookError(f"--out {target}: is the table itself, which would be lost; name another file")


def write_table(schema: pa.Schema, pieces: Iterable[pa.RecordBatch], target: Path, kind: str) -> None:
    """Write pieces of one table to a file of the kind `.csv`, `.xlsx` or `.parquet`."""
    _WRITERS[kind](schema, pieces, target)


def neutralise(cell: object) -> object:
    """Return the cell as a spreadsheet can hold it: text that it would run gets a quote before it."""
    if isinstance(cell, str):
        printable = _ILLEGAL.sub("\ufffd", cell)
        return f"'{printable}" if printable.startswith(_FORMULA_STARTS) else printable
    if isinstance(cell, float) and not math.isfinite(cell):
        return None
    if cell is None or isinstance(cell, bool | int | float | date | time):
        return cell
    if isinstance(cell, list | dict):
        return neutralise(json.dumps(cell, ensure_ascii=False, default=_text_of))
    return neutralise(_text_of(cell))


def _text_of(cell: object) -> str:
    if isinstance(cell, bytes):
        try:
            return cell.decode()
        except UnicodeDecodeError:
            return cell.hex()
    return str(cell)


def _write_csv(schema: pa.Schema, pieces: Iterable[pa.RecordBatch], target: Path) -> None:
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(neutralise, schema.names))
        for piece in pieces:
            writer.writerows(map(neutralise, row) for row in _rows(piece))


def _write_xlsx(schema: pa.Schema, pieces: Iterable[pa.RecordBatch], target: Path) -> None:
    from openpyxl import Workbook

    book = Workbook(write_only=True)  # rows go to a file of its own as they come
    sheet = book.create_sheet("Sheet1")
    sheet.append([neutralise(name) for name in schema.names])
    for piece in pieces:
        for row in _rows(piece):
            sheet.append([neutralise(_as_a_sheet_holds_it(cell)) for cell in row])
    book.save(target)


def _write_parquet(schema: pa.Schema, pieces: Iterable[pa.RecordBatch], target: Path) -> None:
    import pyarrow.parquet as pq

    with pq.ParquetWriter(target, schema) as writer:
        for piece in pieces:
            writer.write_batch(piece)


_WRITERS = {".csv": _write_csv, ".xlsx": _write_xlsx, ".parquet": _write_parquet}


def _rows(piece: pa.RecordBatch) -> Iterable[tuple[object, ...]]:
    return zip(*(column.to_pylist() for column in piece.columns), strict=True)


def _as_a_sheet_holds_it(cell: object) -> object:
    """Return as text a moment with a time zone, which .xlsx does not know, and a number it would round."""
    is_rounded = isinstance(cell, int) and abs(cell) > _EXACT
    return str(cell) if is_rounded or getattr(cell, "tzinfo", None) is not None else cell
