"""Reading a table of any accepted kind into rows of text, each cell with the kind of thing it was."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError

COLUMNS = ("label", "language", "sensitive")
_ERROR = re.compile(r"#(N/A|DIV/0!|REF!|VALUE!|NAME\?|NULL!|NUM!|SPILL!|CALC!)")


@dataclass(frozen=True)
class FoundTable:
    """One table as read: `row` (its number as its program shows it) and text and `<name>_kind` for each of COLUMNS."""

    sheet: str
    rows: pa.Table
    extra_columns: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass
class RawTable:
    """A header and rows of cells, with the number of the first row below the header."""

    sheet: str
    header: list[str]
    rows: Iterable[tuple[int, Sequence[object]]]
    notes: list[str] = field(default_factory=list)
    # Given the positions of the columns and the (row, column) cells found filled, what else is known of cells.
    special_kinds: Callable[[Sequence[int], Sequence[set[int]]], dict[tuple[int, int], str]] | None = None


def read_table(path: Path, config: DataConfig) -> FoundTable:
    """Read the file by the kind its ending names.

    Raises:
        BadWorkbookError: the file is refused; the message says why and what to do.
    """
    from pii_finetune import delimited, spreadsheets

    readers: dict[str, Callable[[Path, DataConfig], Any]] = {
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
    with reader(path, config) as raw:
        return _collect(path, config, raw)


def _collect(path: Path, config: DataConfig, raw: RawTable) -> FoundTable:
    where = f"{path}, sheet {raw.sheet!r}" if raw.sheet else str(path)
    wanted = (config.label_column, config.language_column, config.sensitive_column)
    positions = [_find_column(name, raw.header, where) for name in wanted]
    numbers: list[int] = []
    texts: list[list[str | None]] = [[], [], []]
    kinds: list[list[str]] = [[], [], []]
    filled: list[set[int]] = [set(), set(), set()]
    for number, cells in raw.rows:
        found = [read_cell(cells[at]) if at < len(cells) else (None, "empty") for at in positions]
        if len(numbers) >= config.max_rows and any(kind != "empty" for _, kind in found):
            raise BadWorkbookError(
                f"{where}: has more rows than data.max_rows = {config.max_rows:,}; raise it if that is meant"
            )
        numbers.append(number)
        for at, (text, kind) in enumerate(found):
            texts[at].append(text)
            kinds[at].append(kind)
            if kind != "empty":
                filled[at].add(number)
    if raw.special_kinds is not None:
        first = numbers[0] if numbers else 0
        for (number, at), kind in raw.special_kinds(positions, filled).items():
            if 0 <= number - first < len(numbers):
                kinds[at][number - first] = kind
    keep = [at for at in range(len(numbers)) if any(column[at] != "empty" for column in kinds)]
    columns: dict[str, Any] = {"row": pa.array([numbers[at] for at in keep], pa.int64())}
    for name, text, kind in zip(COLUMNS, texts, kinds, strict=True):
        columns[name] = pa.array([text[at] for at in keep], pa.large_string())
        columns[f"{name}_kind"] = pa.array([kind[at] for at in keep], pa.string())
    used = tuple(name for at, name in enumerate(raw.header) if name and at not in positions)
    return FoundTable(raw.sheet, pa.table(columns), used, tuple(raw.notes))


def read_cell(cell: object) -> tuple[str | None, str]:
    """Return the cell's text and what kind of thing it was."""
    if cell is None or cell == "" or (isinstance(cell, float) and cell != cell):  # noqa: PLR0124  NaN
        return None, "empty"
    if isinstance(cell, str):
        # A lone surrogate is no character: it cannot be stored, and marks text that was cut or decoded wrongly.
        text = cell.encode("utf-8", "replace").decode()
        return text, "error" if _ERROR.fullmatch(text.strip()) else "text"
    if isinstance(cell, bool):
        return str(cell), "boolean"
    if isinstance(cell, (date, time, timedelta)):
        return str(cell), "date"
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell)[:400], "number" if isinstance(cell, (int, float)) else "other"


def _find_column(wanted: str, header: list[str], where: str) -> int:
    matches = [at for at, name in enumerate(header) if name.casefold() == wanted.strip().casefold()]
    if len(matches) == 1:
        return matches[0]
    shown = [name[:40] for name in header if name]
    found = ", ".join(repr(name) for name in shown[:20]) or "none"
    found += f" and {len(shown) - 20} more" if len(shown) > 20 else ""
    problem = f"has {len(matches)} columns named {wanted!r}" if matches else f"has no column {wanted!r}"
    remedy = (
        "keep one of them"
        if matches
        else "rename one, or set data.label_column, data.language_column, data.sensitive_column"
    )
    raise BadWorkbookError(f"{where}: {problem} (columns found: {found}); {remedy}")


def number_rows(rows: Iterator[Sequence[object]], first: int) -> Iterator[tuple[int, Sequence[object]]]:
    """Pair each row with its number."""
    return enumerate(rows, start=first)
