"""What a second reader finds on a sheet, of whatever format."""

from array import array
from collections import Counter
from dataclasses import dataclass, field

MAX_CELLS = 20_000_000
NUM_COLUMNS = 1 << 14  # of a sheet
_MAX_TEXTS, _MAX_TEXTS_OF_COLUMN = 100_000, 1_000  # cells whose text is kept, to be shown
_MAX_TEXT = 80


@dataclass
class SheetScan:
    """Cells of one sheet by kind. A cell is row * 2**14 + column, both from 0."""

    filled: "array[int]" = field(default_factory=lambda: array("Q"))
    formulas: "array[int]" = field(default_factory=lambda: array("Q"))
    errors: "array[int]" = field(default_factory=lambda: array("Q"))
    dates: "array[int]" = field(default_factory=lambda: array("Q"))  # stored as such, not as a number that is shown so
    unclear: "array[int]" = field(default_factory=lambda: array("Q"))  # what they hold is not of the type they state
    # By cell, of the first formulas (=A2), errors (#N/A) and impossible values.
    texts: dict[int, str] = field(default_factory=dict)
    merged: list[tuple[int, int, int, int]] = field(default_factory=list)  # first row, column, last row, column
    hidden_rows: int = 0
    dimension: tuple[int, int, int, int] | None = None
    last_row: int = -1
    last_column: int = -1
    num_texts: Counter[int] = field(default_factory=Counter)  # by column

    def keep_text(self, cell: int, text: str) -> None:
        """Begin, or add to, what a message shows of a cell; a file cannot make it large."""
        column = cell % NUM_COLUMNS
        if cell not in self.texts:
            if len(self.texts) >= _MAX_TEXTS or self.num_texts[column] >= _MAX_TEXTS_OF_COLUMN:
                return
            self.num_texts[column] += 1
        self.texts[cell] = (self.texts.get(cell, "") + text)[:_MAX_TEXT]

    def add_unclear(self, cell: int, text: str) -> None:
        """Note a cell whose content and type do not agree."""
        self.unclear.append(cell)
        if cell not in self.texts:
            self.keep_text(cell, text)
