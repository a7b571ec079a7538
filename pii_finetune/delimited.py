"""Tables without sheets: .csv and .tsv in Unicode, and .parquet."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError
from pii_finetune.tables import RawTable

_DELIMITERS = ",;\t|"


@contextmanager
def read_csv(path: Path, config: DataConfig) -> Iterator[RawTable]:
    """Open a delimited text; the delimiter is the one that shows most of the wanted columns in the first line."""
    encoding = _encoding(path)
    try:
        with path.open(encoding=encoding, newline="") as file:
            first = file.readline(1 << 20)
            file.seek(0)
            wanted = {
                n.strip().casefold() for n in (config.label_column, config.language_column, config.sensitive_column)
            }
            delimiter = max(_DELIMITERS, key=lambda mark: _num_found(first, mark, wanted))
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [name.strip() for name in next(reader, [])]
            if not any(header):
                raise BadWorkbookError(f"{path}: is empty; the first line must name the columns")
            yield RawTable("", header, _lines(path, reader, len(header)))
    except UnicodeDecodeError as error:
        raise BadWorkbookError(
            f"{path}: byte {error.start:,} is not {error.encoding.upper()}; save it as 'CSV UTF-8' and give it again"
        ) from None
    except csv.Error as error:
        raise BadWorkbookError(f"{path}: cannot be read as delimited text ({error}); save it as 'CSV UTF-8'") from None
    except OSError as error:
        raise BadWorkbookError(f"{path}: cannot be read ({error.strerror})") from None


@contextmanager
def read_parquet(path: Path, config: DataConfig) -> Iterator[RawTable]:
    """Open a Parquet file; a row's number is its place among the rows, from 2 as in a sheet with a header."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            header = [str(name) for name in file.schema_arrow.names]
            if file.metadata.num_rows > config.max_rows:
                raise BadWorkbookError(
                    f"{path}: has {file.metadata.num_rows:,} rows, more than data.max_rows = {config.max_rows:,}; "
                    "raise it if that is meant"
                )
            yield RawTable("", [name.strip() for name in header], _batches(file))
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, (BadWorkbookError, pa.ArrowMemoryError)):
            raise
        raise BadWorkbookError(
            f"{path}: cannot be read as a Parquet file ({str(error)[:200]}); write it again, or give .xlsx or .csv"
        ) from None


def _lines(path: Path, reader: Any, width: int) -> Iterator[tuple[int, Sequence[object]]]:
    last = reader.line_num
    for cells in reader:
        number, last = last + 1, reader.line_num
        if len(cells) > width and any(cells[width:]):
            raise BadWorkbookError(
                f"{path}: line {number:,} has {len(cells):,} cells, the header {width:,}; "
                'put a cell that contains the delimiter into quotes ("a, b")'
            )
        yield number, cells


def _batches(file: Any) -> Iterator[tuple[int, Sequence[object]]]:
    number = 2
    for batch in file.iter_batches(batch_size=65_536):
        for cells in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            yield number, cells
            number += 1


def _encoding(path: Path) -> str:
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise BadWorkbookError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    if not head:
        raise BadWorkbookError(f"{path}: is empty (0 bytes); the first line must name the columns")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if b"\0" in head or head.startswith(b"PK\x03\x04"):
        raise BadWorkbookError(f"{path}: is no text; give it the ending of its kind (.xlsx, .ods, .parquet)")
    return "utf-8-sig"


def _num_found(line: str, delimiter: str, wanted: set[str]) -> int:
    try:
        return len(wanted & {name.strip().casefold() for name in next(csv.reader([line], delimiter=delimiter), [])})
    except csv.Error:
        return 0
