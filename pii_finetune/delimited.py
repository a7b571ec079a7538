"""Tables without sheets: .csv and .tsv in Unicode, and .parquet."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError
from pii_finetune.header import NUM_SEARCHED, NumberedRow, places
from pii_finetune.remote_table import TablePath
from pii_finetune.tables import TOP, RawTable, TextPlace, UnreadableCell
from pii_finetune.text_faults import describe_bad_byte, describe_bad_quote

_DELIMITERS = ",;\t|"
_MAX_LINE = 1 << 20  # characters of a line that is looked at for the delimiter
_QUOTE = 'close it, or write a quote that is part of the text twice ("")'


@contextmanager
def read_csv(path: TablePath, config: DataConfig, start: TextPlace = TOP) -> Iterator[RawTable]:
    """Open a delimited text; the delimiter is the one that shows most of the wanted columns in a line.

    The rows begin at `start`, a place that an earlier reading of the same file gave.
    """
    encoding = _encoding(path)
    try:
        with path.open(encoding=encoding, newline="") as file:
            first_lines = [line for _ in range(NUM_SEARCHED) if (line := file.readline(_MAX_LINE))]
            file.seek(0)
            delimiter = _choose_delimiter(first_lines, config)
            first_rows = _rows(first_lines, delimiter)
            if not any(line.strip() for line in first_lines):
                raise BadWorkbookError(f"{path}: is empty; the first line must name the columns")
            lines = iter(file.readline, "")  # not the file itself, which does not say where it is while it is iterated
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            try:
                header = [name.strip() for name in next(reader, [])]
            except csv.Error as error:
                raise BadWorkbookError(f"{path}: {describe_bad_quote(path, encoding, 1, error)}; {_QUOTE}") from None
            hint = "; cells are separated by a comma, a semicolon, a tab or |" if len(header) == 1 else ""
            raw = RawTable("", header, (), first_rows, hint=hint)
            if start == TOP:
                start = TextPlace(file.tell(), reader.line_num)
            file.seek(start.position)
            num_skipped = start.num_lines - reader.line_num
            raw.rows = _lines(path, encoding, reader, raw, num_skipped)
            raw.place = lambda: TextPlace(file.tell(), reader.line_num + num_skipped)
            yield raw
    except UnicodeDecodeError:
        raise BadWorkbookError(
            f"{path}: {describe_bad_byte(path, encoding)}; save it as 'CSV UTF-8' and give it again"
        ) from None
    except OSError as error:
        raise BadWorkbookError(f"{path}: cannot be read ({error.strerror})") from None


@contextmanager
def read_parquet(path: Path, config: DataConfig) -> Iterator[RawTable]:
    """Open a Parquet file; a row's number is its place among the rows, from 2 as in a sheet with a header."""
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            header = [str(name).strip() for name in file.schema_arrow.names]
            if file.metadata.num_rows > config.max_rows:
                raise BadWorkbookError(
                    f"{path}: has {file.metadata.num_rows:,} rows, more than data.max_rows = {config.max_rows:,}; "
                    "raise it if that is meant"
                )
            names = (config.label_column, config.language_column, config.sensitive_column, config.category_column)
            wanted = {at for name in names for at in places(name, header)}
            yield RawTable("", header, _batches(file, wanted))
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, (BadWorkbookError, pa.ArrowMemoryError)):
            raise
        raise BadWorkbookError(
            f"{path}: cannot be read as a Parquet file ({str(error)[:200]}); write it again, or give .xlsx or .csv"
        ) from None


def _lines(path: TablePath, encoding: str, reader: Any, raw: RawTable, num_skipped: int) -> Iterator[NumberedRow]:
    width, last, long_rows = len(raw.header), reader.line_num + num_skipped, list[int]()
    try:
        for cells in reader:
            number, last = last + 1, reader.line_num + num_skipped
            if len(cells) > width and any(cells[width:]):
                raise BadWorkbookError(
                    f"{path}: line {number:,} has {len(cells):,} cells, the header {width:,}; "
                    'put a cell that contains the delimiter into quotes ("a, b")'
                )
            if last > number:
                long_rows.append(number)
            yield number, cells
    except csv.Error as error:
        raise BadWorkbookError(f"{path}: {describe_bad_quote(path, encoding, last + 1, error)}; {_QUOTE}") from None
    if long_rows:
        raw.notes.append(
            f"{len(long_rows):,} {'row runs' if len(long_rows) == 1 else 'rows run'} over several lines, the first "
            f"from line {long_rows[0]:,}; if that is not meant, a quote there is not closed"
        )


def _batches(file: Any, wanted: set[int]) -> Iterator[NumberedRow]:
    """Yield the rows with the cells of the columns that are wanted; what the others hold may be beyond reading."""
    number = 2
    for batch in file.iter_batches(batch_size=65_536):
        nothing = [None] * batch.num_rows
        columns = (_values(column) if at in wanted else nothing for at, column in enumerate(batch.columns))
        for cells in zip(*columns, strict=True):
            yield number, cells
            number += 1


def _values(column: Any) -> list[Any]:
    try:
        return column.to_pylist()
    except (ValueError, OverflowError, LookupError, pa.ArrowException):
        return [_value(column, at) for at in range(len(column))]


def _value(column: Any, at: int) -> Any:
    try:
        return column[at].as_py()
    except (ValueError, OverflowError, LookupError, pa.ArrowException) as error:
        return UnreadableCell(type(error).__name__)


def _encoding(path: TablePath) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise BadWorkbookError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    if not head:
        raise BadWorkbookError(f"{path}: is empty (0 bytes); the first line must name the columns")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) and not head.startswith(b"\xff\xfe\0\0"):  # which is UTF-32
        return "utf-16"
    if b"\0" in head or head.startswith(b"PK\x03\x04"):
        line = head[: head.find(b"\0")].count(b"\n") + 1
        raise BadWorkbookError(
            f"{path}: is no text in UTF-8, or in UTF-16 with its mark, for line {line} holds a byte 0; "
            "save it as 'CSV UTF-8', or give it the ending of its kind (.xlsx, .ods, .parquet)"
            if b"\0" in head
            else f"{path}: is no text; give it the ending of its kind (.xlsx, .ods)"
        )
    return "utf-8-sig"


def _choose_delimiter(lines: Sequence[str], config: DataConfig) -> str:
    names = (config.label_column, config.language_column, config.sensitive_column)
    wanted = {name.strip().casefold() for name in names}

    def num_found(delimiter: str) -> int:
        rows = (_rows([line], delimiter) for line in lines)
        return max(
            (len(wanted & {name.strip().casefold() for name in cells}) for each in rows for _, cells in each), default=0
        )

    return max(_DELIMITERS, key=num_found)


def _rows(lines: Sequence[str], delimiter: str) -> list[tuple[int, list[str]]]:
    """Return the rows of lines as far as they can be read, each with the number of its first line."""
    rows: list[tuple[int, list[str]]] = []
    reader = csv.reader(lines, delimiter=delimiter)
    try:
        while (number := reader.line_num + 1) <= len(lines):
            rows.append((number, next(reader)))
    except csv.Error:
        pass
    return rows
