"""The cells of a spreadsheet on their way to the stream that is scored; see `table_copy`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from pii_finetune.tables import RawTable

_EXACT = 2**53  # up to here a spreadsheet's number is the whole number it shows

Unread = Mapping[tuple[int, int], str]  # kinds of cells that hold something, but no value, by row number and column


class SheetCells:
    """All cells of a sheet, and those that only the second reader can tell from empty ones, or from text."""

    def __init__(self, raw: RawTable, rows: Iterable[tuple[int, Sequence[object]]]) -> None:
        numbered = list(rows)
        self._numbers = [number for number, _ in numbered]
        self._cells: list[list[Any]] = [[_plain(row[at]) for _, row in numbered] for at in range(len(raw.header))]
        self.unread: dict[tuple[int, int], str] = {}
        if raw.special_kinds is None or not numbered:
            return
        filled = [
            {number for number, cell in zip(self._numbers, column, strict=True) if cell is not None}
            for column in self._cells
        ]
        for (number, at), (kind, text) in raw.special_kinds(range(len(raw.header)), filled).items():
            place = number - self._numbers[0]
            if kind == "unclear":  # what it holds is kept; as a label or language it is refused
                self.unread[number, at] = kind
            elif kind in ("formula", "merged") and 0 <= place < len(numbered) and self._cells[at][place] is None:
                self.unread[number, at] = kind
                self._cells[at][place] = text  # of the formula, so that a column that is only kept loses nothing

    def pieces(self, size: int) -> Iterator[tuple[Sequence[int], list[pa.Array]]]:
        """Yield so many rows at a time: their numbers, and their columns of one type each."""
        columns = [_typed(column) for column in self._cells]
        for start in range(0, len(self._numbers), size):
            yield self._numbers[start : start + size], [column.slice(start, size) for column in columns]


def _plain(cell: Any) -> Any:
    if cell == "":
        return None
    return int(cell) if isinstance(cell, float) and abs(cell) <= _EXACT and cell.is_integer() else cell


def _typed(cells: list[Any]) -> pa.Array:
    """Return a column of a spreadsheet: of one type if its cells are, else as text."""
    try:
        return pa.array(cells)
    except (pa.ArrowException, OverflowError, TypeError):
        return pa.array([None if cell is None else str(cell) for cell in cells], pa.string())
