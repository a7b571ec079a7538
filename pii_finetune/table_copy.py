"""Copying a table of any accepted kind, all columns of it, to an Arrow stream that can be scored piece by piece.

Runs in the process that reads untrusted files; see `isolation`. Delimited text and Parquet pass through it in pieces; a
spreadsheet is held in memory, for its format cannot be read otherwise.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from pii_finetune.config import DataConfig
from pii_finetune.delimited import read_csv
from pii_finetune.errors import BadWorkbookError
from pii_finetune.expectations import KINDS
from pii_finetune.header import NumberedRow, list_columns, places, point_to_header
from pii_finetune.labels import MAX_LABEL_CHARACTERS, clean_label
from pii_finetune.remote_table import TablePath
from pii_finetune.row_range import RowRange
from pii_finetune.spreadsheet_copy import SheetCells, Unread
from pii_finetune.tables import TOP, RawTable, TextPlace, open_table, read_cell

ROWS_PER_PIECE = 4_096
MAX_SHEET_ROWS = 1_048_576  # the format of .xlsx has no more
_TEXT = (".csv", ".tsv")
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


def copy_table(
    path: TablePath, config: DataConfig, language_is_required: bool, target: Path, rows: RowRange | None = None
) -> int:
    """Write what is asked of each row (cleaned label; language as given, null: none) and its cells; return the count.

    Args:
        path: the table.
        config: names of the columns, and limits.
        language_is_required: whether a table without that column is refused.
        target: the Arrow stream.
        rows: which of them, as `split_table` said; None: all.

    Raises:
        BadWorkbookError: the file is refused; or it has no column of labels, no rows, or rows without a good label.
    """
    num_rows = 0
    with _opened(path, config, language_is_required, rows) as (pieces, _), target.open("wb") as file:
        writer = None
        for piece in pieces:
            if writer is None:
                options = pa.ipc.IpcWriteOptions(compression="lz4")
                writer = pa.ipc.new_stream(file, piece.schema, options=options)
            writer.write_batch(piece)
            num_rows += piece.num_rows
        if writer is not None:
            writer.close()
        file.flush()
        os.fsync(file.fileno())
    return num_rows


def split_table(path: TablePath, config: DataConfig, language_is_required: bool, rows_per_range: int) -> list[RowRange]:
    """Read the whole table, keep nothing, and return its rows as ranges that can be copied by themselves.

    A spreadsheet is one range, for it can be read as a whole only. Others have `rows_per_range` rows or, where a piece
    goes over that, some more.

    Raises:
        BadWorkbookError: as copy_table.
    """
    if path.suffix.lower() not in (*_TEXT, ".parquet"):
        rows_per_range = MAX_SHEET_ROWS
    ranges: list[RowRange] = []
    with _opened(path, config, language_is_required, None) as (pieces, place):
        first, num_rows, start = 0, 0, place()
        for piece in pieces:
            num_rows += piece.num_rows
            if num_rows >= rows_per_range:
                ranges.append(RowRange(first, num_rows, start.position, start.num_lines))
                first, num_rows, start = first + num_rows, 0, place()
        if num_rows:
            ranges.append(RowRange(first, num_rows, start.position, start.num_lines))
    return ranges


@contextmanager
def _opened(
    path: TablePath, config: DataConfig, language_is_required: bool, rows: RowRange | None
) -> Iterator[tuple[Iterator[pa.RecordBatch], Callable[[], TextPlace]]]:
    """Yield the table's pieces, questions first, and what says where the piece after the last one read begins."""
    if path.suffix.lower() == ".parquet":
        with _parquet(path) as file:
            raw = RawTable("", file.schema_arrow.names, ())
            yield _Copy(path, config, raw, language_is_required).check(_pieces_of_parquet(file, rows)), raw.place
        return
    is_text = path.suffix.lower() in _TEXT
    start = TextPlace(rows.position, rows.num_lines) if rows else TOP
    with read_csv(path, config, start) if is_text or not isinstance(path, Path) else open_table(path, config) as raw:
        copy = _Copy(path, config, raw, language_is_required)
        numbered = _without_blank_end(raw.rows)
        if is_text:
            wanted = islice(numbered, rows.num_rows) if rows else numbered
            yield copy.check(_pieces_of_text(path, raw, wanted)), raw.place
        else:
            cells = SheetCells(raw, numbered)
            yield copy.check(cells.pieces(ROWS_PER_PIECE), cells.unread), raw.place


@contextmanager
def _parquet(path: TablePath) -> Iterator[Any]:
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path if isinstance(path, Path) else path.open("rb")) as file:
            yield file
    except (pa.ArrowException, OSError, ValueError, LookupError, OverflowError) as error:
        if isinstance(error, (BadWorkbookError, pa.ArrowMemoryError)):
            raise
        raise BadWorkbookError(
            f"{path}: cannot be read as a Parquet file ({str(error)[:200]}); write it again, or give .xlsx or .csv"
        ) from None


class _Copy:
    """A table on its way to the stream, and what is wrong with its labels."""

    def __init__(self, path: TablePath, config: DataConfig, raw: RawTable, language_is_required: bool) -> None:
        self._path = path
        self._header, self._first_rows, self._hint = list(raw.header), raw.first_rows, raw.hint
        self._column = config.label_column
        (self._label,) = self._find(config.label_column, required=True)
        self._language = self._find(config.language_column, required=language_is_required)
        self._bad: dict[str, list[int]] = {}

    def check(self, pieces: Iterable[Piece], unread: Unread = MappingProxyType({})) -> Iterator[pa.RecordBatch]:
        """Yield the pieces with their questions; refuse the table at its end if any row has no good label."""
        num_rows = 0
        for numbers, columns in pieces:
            asked = self._questions(numbers, columns, unread)
            fields = [pa.field(name, each.type) for name, each in zip(self._header, columns, strict=True)]
            yield pa.record_batch([*asked, *columns], schema=pa.schema([*QUESTION, *fields]))
            num_rows += len(numbers)
        if not num_rows:
            raise BadWorkbookError(f"{self._path}: has no rows below its header; give at least one label")
        if self._bad:
            raise BadWorkbookError(f"{self._path}, column {self._column!r}: " + "; ".join(self._complaints()))

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


def _pieces_of_text(path: TablePath, raw: RawTable, rows: Iterator[NumberedRow]) -> Iterator[Piece]:
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


def _pieces_of_parquet(file: Any, rows: RowRange | None) -> Iterator[Piece]:
    groups, first = _groups(file, rows)
    begin, end = (rows.first, rows.first + rows.num_rows) if rows else (0, file.metadata.num_rows)
    for batch in file.iter_batches(batch_size=ROWS_PER_PIECE, row_groups=groups):
        from_, to = max(begin - first, 0), min(end - first, batch.num_rows)
        if from_ < to:
            numbers = range(first + from_ + 2, first + to + 2)  # from 2, as in a sheet with a header
            yield numbers, list(batch.slice(from_, to - from_).columns)
        first += batch.num_rows


def _groups(file: Any, rows: RowRange | None) -> tuple[list[int], int]:
    """Return the row groups in which the rows are, and how many rows come before the first of them."""
    sizes = [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)]
    starts = [0, *accumulate(sizes)]
    if rows is None:
        return list(range(len(sizes))), 0
    end = rows.first + rows.num_rows
    groups = [at for at, size in enumerate(sizes) if starts[at] < end and starts[at] + size > rows.first]
    return groups, starts[groups[0]] if groups else 0
