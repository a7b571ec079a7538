"""Reading a table of any accepted kind into rows of text, each cell with the kind of thing it was."""

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError
from pii_finetune.header import NumberedRow, find_column, places, point_to_header

COLUMNS = ("label", "language", "sensitive")
_RENAME = "rename one, or set data.label_column, data.language_column, data.sensitive_column"
_ERROR = re.compile(r"#(N/A|DIV/0!|REF!|VALUE!|NAME\?|NULL!|NUM!|SPILL!|CALC!)")


@dataclass(frozen=True)
class FoundTable:
    """One table as read: `row` (its number as its program shows it), text and `<name>_kind` for each of COLUMNS.

    Where there is one, the column that names categories is `category`.
    """

    sheet: str
    rows: pa.Table
    extra_columns: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class UnreadableCell:
    """A cell of a Parquet file that stands for no value: text that is not UTF-8, a date beyond the calendar."""

    error: str


@dataclass(frozen=True)
class TextPlace:
    """Where in a delimited text a row begins."""

    position: int  # as the text file's tell() says, which is no number of bytes in every encoding
    num_lines: int  # before it


TOP = TextPlace(0, 0)  # the header, and for whoever asks for rows the first one below it


@dataclass
class RawTable:
    """A header and rows of cells, with the number of the first row below the header."""

    sheet: str
    header: list[str]
    rows: Iterable[NumberedRow]
    first_rows: Sequence[NumberedRow] = ()  # the header and those below, to look for a header that stands too low
    notes: list[str] = field(default_factory=list)  # complete when the rows have been read
    # Given the positions of the columns and the (row, column) cells found filled: kinds of other cells, and their texts
    # where these are not what the cell shows.
    special_kinds: (
        Callable[[Sequence[int], Sequence[set[int]]], dict[tuple[int, int], tuple[str, str | None]]] | None
    ) = None
    hint: str = ""  # what else to do where a column is not found
    place: Callable[[], TextPlace] = lambda: TOP  # of a delimited text: where the row after the last one read begins


def read_table(path: Path, config: DataConfig) -> FoundTable:
    """Read the file by the kind its ending names.

    Raises:
        BadWorkbookError: the file is refused; the message says why and what to do.
    """
    with open_table(path, config) as raw:
        return _collect(path, config, raw)


def open_table(path: Path, config: DataConfig) -> AbstractContextManager[RawTable]:
    """Open the file with the reader for the kind its ending names.

    Raises:
        BadWorkbookError: it is of no kind that can be read.
    """
    from pii_finetune import delimited, spreadsheets

    readers: dict[str, Callable[[Path, DataConfig], AbstractContextManager[RawTable]]] = {
        ".xlsx": spreadsheets.read_xlsx,
        ".xlsm": spreadsheets.read_xlsx,
        ".ods": spreadsheets.read_ods,
        ".csv": delimited.read_csv,
        ".tsv": delimited.read_csv,
        ".parquet": delimited.read_parquet,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise BadWorkbookError(
            f"{path}: is of no kind that can be read ({path.suffix or 'no ending'}); "
            "give .xlsx, .ods, .csv, .tsv or .parquet"
        )
    return reader(path, config)


def _collect(path: Path, config: DataConfig, raw: RawTable) -> FoundTable:
    where = f"{path}, sheet {raw.sheet!r}" if raw.sheet else str(path)
    wanted = (config.label_column, config.language_column, config.sensitive_column)
    hint = point_to_header(wanted, raw.first_rows) or _RENAME + raw.hint
    positions = [find_column(name, raw.header, where, hint) for name in wanted]
    has_category = bool(places(config.category_column, raw.header))
    category_at = find_column(config.category_column, raw.header, where, "") if has_category else None
    numbers: list[int] = []
    texts: list[list[str | None]] = [[], [], []]
    kinds: list[list[str]] = [[], [], []]
    filled: list[set[int]] = [set(), set(), set()]
    categories: list[str | None] = []
    for number, cells in raw.rows:
        found = [read_cell(cells[at]) if at < len(cells) else (None, "empty") for at in positions]
        if len(numbers) >= config.max_rows and any(kind != "empty" for _, kind in found):
            raise BadWorkbookError(
                f"{where}: has more rows than data.max_rows = {config.max_rows:,}; raise it if that is meant"
            )
        numbers.append(number)
        if category_at is not None:
            text, kind = read_cell(cells[category_at]) if category_at < len(cells) else (None, "empty")
            categories.append(text if kind == "text" else None)
        for at, (text, kind) in enumerate(found):
            texts[at].append(text)
            kinds[at].append(kind)
            if kind != "empty":
                filled[at].add(number)
    _apply_special_kinds(raw, positions, filled, numbers, texts, kinds)
    keep = [at for at in range(len(numbers)) if any(column[at] != "empty" for column in kinds)]
    columns: dict[str, Any] = {"row": pa.array([numbers[at] for at in keep], pa.int64())}
    for name, text, kind in zip(COLUMNS, texts, kinds, strict=True):
        columns[name] = pa.array([text[at] for at in keep], pa.large_string())
        columns[f"{name}_kind"] = pa.array([kind[at] for at in keep], pa.string())
    if category_at is not None:
        columns["category"] = pa.array([categories[at] for at in keep], pa.string())
    used = tuple(name for at, name in enumerate(raw.header) if name and at not in (*positions, category_at))
    return FoundTable(raw.sheet, pa.table(columns), used, tuple(raw.notes))


def _apply_special_kinds(
    raw: RawTable,
    positions: Sequence[int],
    filled: Sequence[set[int]],
    numbers: Sequence[int],
    texts: list[list[str | None]],
    kinds: list[list[str]],
) -> None:
    if raw.special_kinds is None or not numbers:
        return
    for (number, at), (kind, text) in raw.special_kinds(positions, filled).items():
        if 0 <= (place := number - numbers[0]) < len(numbers):
            kinds[at][place] = kind
            texts[at][place] = text or texts[at][place]


def read_cell(cell: object) -> tuple[str | None, str]:
    """Return the cell's text and what kind of thing it was."""
    if cell is None or cell == "" or (isinstance(cell, float) and cell != cell):  # noqa: PLR0124  NaN
        return None, "empty"
    if isinstance(cell, str):
        # A lone surrogate is no character: it cannot be stored, and marks text that was cut or decoded wrongly.
        text = cell.encode("utf-8", "replace").decode()
        return text, "error" if _ERROR.fullmatch(text.strip()) else "text"
    if isinstance(cell, UnreadableCell):
        return cell.error, "unclear"
    if isinstance(cell, bool):
        return str(cell), "boolean"
    if isinstance(cell, (date, time, timedelta)):
        return str(cell), "date"
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell)[:400], "number" if isinstance(cell, (int, float)) else "other"
