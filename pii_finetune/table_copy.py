"""Copying a table of any accepted kind, all columns of it, to an Arrow stream that can be scored piece by piece.

Runs in the process that reads untrusted files; see `isolation`. Delimited text and Parquet pass through it in pieces; a
spreadsheet is held in memory, for its format cannot be read otherwise.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError
from pii_finetune.expectations import KINDS
from pii_finetune.header import NumberedRow, list_columns, places, point_to_header
from pii_finetune.labels import MAX_LABEL_CHARACTERS, clean_label
from pii_finetune.spreadsheet_copy import SheetCells, Unread
from pii_finetune.tables import RawTable, open_table, read_cell

ROWS_PER_PIECE = 4_096
QUESTION = (pa.field("label", pa.string()), pa.field("language", pa.string()))  # before the columns of the table
_NUM_SHOWN = 100  # bad rows listed in a message

_WRONG_KINDS = {
    "formula": "a formula whose result was not saved instead of a label in {}; paste the cells as values, or open the "
    "file in a spreadsheet program and save it",
    "merged": "a merged cell instead of a label in {}; unmerge it and fill each cell",
    "error": "a spreadsheet error such as #N/A instead of a label in {}; type what was meant",
    "nested": "a list, a structure or bytes instead of a label in {}; write it as text",
    "unclear": f"the label in {{}}: {KINDS['unclear']}",
}
Piece = tuple[Sequence[int], list[pa.Array]]  # numbers of the rows, as their program shows them; their columns


def copy_table(path: Path, config: DataConfig, language_is_required: bool, target: Path) -> int:
    """Write what is asked of each row (cleaned label; language as given, null: none) and its cells; return the count.

    Raises:
        BadWorkbookError: the file is refused; or it has no column of labels, no rows, or rows without a good label.
    """
    if path.suffix.lower() == ".parquet":
        return _copy_parquet(path, config, language_is_required, target)
    with open_table(path, config) as raw:
        copy = _Copy(path, config, raw, language_is_required, target)
        rows = _without_blank_end(raw.rows)
        if path.suffix.lower() in (".csv", ".tsv"):
            return copy.write(_pieces_of_text(path, raw, rows))
        cells = SheetCells(raw, rows)
        return copy.write(cells.pieces(ROWS_PER_PIECE), cells.unread)


def _copy_parquet(path: Path, config: DataConfig, language_is_required: bool, target: Path) -> int:
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            copy = _Copy(path, config, RawTable("", file.schema_arrow.names, ()), language_is_required, target)
            return copy.write(_pieces_of_batches(file.iter_batches(batch_size=ROWS_PER_PIECE)))
    except (pa.ArrowException, OSError, ValueError, LookupError, OverflowError) as error:
        if isinstance(error, (BadWorkbookError, pa.ArrowMemoryError)):
            raise
        raise BadWorkbookError(
            f"{path}: cannot be read as a Parquet file ({str(error)[:200]}); write it again, or give .xlsx or .csv"
        ) from None


class _Copy:
    """A table on its way to the stream, and what is wrong with its labels."""

    def __init__(self, path: Path, config: DataConfig, raw: RawTable, language_is_required: bool, target: Path) -> None:
        self._path, self._target = path, target
        self._header, self._first_rows, self._hint = list(raw.header), raw.first_rows, raw.hint
        self._column = config.label_column
        (self._label,) = self._find(config.label_column, required=True)
        self._language = self._find(config.language_column, required=language_is_required)
        self._bad: dict[str, list[int]] = {}

    def write(self, pieces: Iterable[Piece], unread: Unread = MappingProxyType({})) -> int:
        num_rows, writer = 0, None
        with self._target.open("wb") as file:
            for numbers, columns in pieces:
                asked = self._questions(numbers, columns, unread)
                fields = [pa.field(name, each.type) for name, each in zip(self._header, columns, strict=True)]
                schema = pa.schema([*QUESTION, *fields])
                if writer is None:
                    options = pa.ipc.IpcWriteOptions(compression="lz4")
                    writer = pa.ipc.new_stream(file, schema, options=options)
                writer.write_batch(pa.record_batch([*asked, *columns], schema=schema))
                num_rows += len(numbers)
            if writer is not None:
                writer.close()
            file.flush()
            os.fsync(file.fileno())
        if not num_rows:
            raise BadWorkbookError(f"{self._path}: has no rows below its header; give at least one label")
        if self._bad:
            raise BadWorkbookError(f"{self._path}, column {self._column!r}: " + "; ".join(self._complaints()))
        return num_rows

    def _questions(self, numbers: Sequence[int], columns: list[pa.Array], unread: Unread) -> list[pa.Array]:
        labels: list[str] = []
        for number, (text, kind) in zip(numbers, self._texts(numbers, columns, self._label, unread), strict=True):
            labels.append(clean_label(text or ""))
            if problem := _problem(labels[-1], kind):
                self._bad.setdefault(problem, []).append(number)
        languages: list[str | None] = [None] * len(numbers)
        for at in self._language:
            cells = self._texts(numbers, columns, at, unread)
            languages = [(text or "").strip() or None for text, _ in cells]
            for number, (_, kind) in zip(numbers, cells, strict=True):
                if kind in ("formula", "nested", "unclear"):
                    problem = _WRONG_KINDS[kind].replace("a label", "a language").replace("the label", "the language")
                    self._bad.setdefault(problem, []).append(number)
        return [pa.array(labels, pa.string()), pa.array(languages, pa.string())]

    def _texts(
        self, numbers: Sequence[int], columns: list[pa.Array], at: int, unread: Unread
    ) -> list[tuple[str | None, str]]:
        cells = zip(numbers, columns[at].to_pylist(), strict=True)
        return [_read(cell, unread.get((number, at))) for number, cell in cells]

    def _complaints(self) -> Iterator[str]:
        for problem, rows in self._bad.items():
            more = f" and {len(rows) - _NUM_SHOWN:,} more" if len(rows) > _NUM_SHOWN else ""
            shown = ", ".join(map(str, rows[:_NUM_SHOWN]))
            yield problem.format(f"row{'s' if len(rows) > 1 else ''} {shown}{more}")

    def _find(self, wanted: str, required: bool) -> list[int]:
        """Return the place of the one column of that name, which is then written as it was asked for."""
        matches = places(wanted, self._header)
        if len(matches) == 1 or (not matches and not required):
            for at in matches:
                self._header[at] = wanted
            return matches
        hint = "" if matches else point_to_header([wanted], self._first_rows)
        remedy = hint or f"rename them, or say which to take with --label-column and --language-column{self._hint}"
        raise BadWorkbookError(
            f"{self._path}: needs exactly one column {wanted!r}, but has {len(matches)} "
            f"(columns found: {list_columns(self._header)}); {remedy}"
        )


def _read(cell: object, unread: str | None) -> tuple[str | None, str]:
    if unread is not None:
        return None, unread
    return (None, "nested") if isinstance(cell, list | dict | bytes) else read_cell(cell)


def _problem(label: str, kind: str) -> str | None:
    """Return what is wrong with a label, with a place for its rows."""
    if kind in _WRONG_KINDS:
        return _WRONG_KINDS[kind]
    if not label:
        return "no label in {}; type one, or delete the row"
    if len(label) > MAX_LABEL_CHARACTERS:
        return f"more than {MAX_LABEL_CHARACTERS} characters in {{}}, as no label has; shorten it, or delete the row"
    return None


def _without_blank_end(rows: Iterable[NumberedRow]) -> Iterator[NumberedRow]:
    blank: list[NumberedRow] = []
    for number, cells in rows:
        if any(cell not in (None, "") for cell in cells):
            yield from blank
            blank.clear()
            yield number, cells
        else:
            blank.append((number, cells))


def _pieces_of_text(path: Path, raw: RawTable, rows: Iterator[NumberedRow]) -> Iterator[Piece]:
    width = len(raw.header)
    while piece := list(islice(rows, ROWS_PER_PIECE)):
        lines: list[Sequence[Any]] = []
        for number, cells in piece:
            if cells and len(cells) < width:
                raise BadWorkbookError(
                    f"{path}: line {number:,} has {len(cells):,} cells, the header {width:,}; give it all its cells"
                )
            lines.append(cells[:width] or [""] * width)
        columns = [pa.array(column, pa.string()) for column in zip(*lines, strict=True)]
        yield [number for number, _ in piece], columns


def _pieces_of_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[Piece]:
    first = 2  # as in a sheet with a header
    for batch in batches:
        yield range(first, first + batch.num_rows), list(batch.columns)
        first += batch.num_rows
