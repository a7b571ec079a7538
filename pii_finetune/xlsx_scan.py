"""A second reader of .xlsx sheets: sees what the fast one does not - formulas, errors, false values, merged cells."""

import re
import zipfile
from pathlib import Path
from xml.parsers import expat

from pii_finetune.archive import parse_part
from pii_finetune.cell_values import xlsx_kind
from pii_finetune.errors import BadWorkbookError
from pii_finetune.sheet_scan import MAX_CELLS, NUM_COLUMNS, SheetScan
from pii_finetune.xlsx_parts import sheet_part

_REFERENCE = re.compile(r"([A-Z]{1,3})([0-9]{1,7})")
_TEXT_KINDS = ("s", "str", "inlineStr")


def scan_sheet(
    path: Path, archive: zipfile.ZipFile, sheet: str, max_rows: int, num_texts: int | None = None
) -> SheetScan:
    """Read the sheet's XML as a stream.

    With `num_texts`, cells that refer to a text beyond so many are impossible; to look at all of them takes seconds.

    Raises:
        BadWorkbookError: more rows than `max_rows` below the header, cells out of order, or a used area that is
            larger than the stated one or absurdly large.
    """
    scan = SheetScan()
    where = f"{path}, sheet {sheet!r}"
    parser = expat.ParserCreate()
    parser.StartElementHandler = _Handler(scan, where, max_rows, parser, num_texts).start
    parse_part(path, archive, sheet_part(path, archive, sheet), parser)
    if (scan.last_row + 1) * (scan.last_column + 1) > 4 * MAX_CELLS:
        raise BadWorkbookError(
            f"{where}: its used area is {scan.last_row + 1:,} rows by {scan.last_column + 1:,} columns; "
            "delete what stands far from the table, and save again"
        )
    if scan.dimension is not None and (scan.last_row > scan.dimension[2] or scan.last_column > scan.dimension[3]):
        raise BadWorkbookError(
            f"{where}: says that it ends at row {scan.dimension[2] + 1:,}, but has cells down to row "
            f"{scan.last_row + 1:,}; readers that believe it lose rows, so save it again in a spreadsheet program"
        )
    return scan


class _Handler:
    """Receives the start of each element; positions may be left out, and then follow the cell before."""

    def __init__(
        self, scan: SheetScan, where: str, max_rows: int, parser: expat.XMLParserType, num_texts: int | None
    ) -> None:
        self.scan, self.where, self.max_rows, self.parser, self.num_texts = scan, where, max_rows, parser, num_texts
        self.row, self.column = -1, -1
        self.has_table = False
        self.counted = False  # a cell is filled once, whatever it holds
        self.kind, self.has_value = "n", False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        tag = name.rpartition(":")[2]
        if tag in ("v", "is", "f"):
            self._start_content(tag)
        elif tag == "c":
            self._start_cell(attributes)
        elif tag == "row":
            self._start_row(attributes)
        elif tag == "sheetData":
            self._start_table()
        elif tag == "mergeCell":
            area = _area(attributes.get("ref", ""))
            if area is not None:
                self.scan.merged.append(area)
        elif tag == "dimension":
            self.scan.dimension = _area(attributes.get("ref", ""))

    def _start_table(self) -> None:
        if self.has_table:
            raise BadWorkbookError(
                f"{self.where}: holds two tables of cells, of which readers take one; "
                "save it again in a spreadsheet program"
            )
        self.has_table = True

    def _start_content(self, tag: str) -> None:
        if self.row < 0 or self.column < 0:
            return
        cell = self.row * NUM_COLUMNS + self.column
        if not self.counted:
            self.counted = True
            self._fill(cell)
        if tag == "f":
            self.scan.formulas.append(cell)
            self._listen(cell, "=")
            return
        is_second, self.has_value = self.has_value, True
        if is_second or (tag == "is") != (self.kind == "inlineStr"):
            self.scan.add_unclear(cell, "")  # readers differ on which content counts
        elif self.kind == "e":
            self._listen(cell, "")
        elif self.kind not in _TEXT_KINDS or (self.kind == "s" and self.num_texts is not None):
            self._check_value(cell)

    def _check_value(self, cell: int) -> None:
        """Compare the value that begins here with the type of its cell."""
        texts: list[str] = []

        def stop(_name: str) -> None:
            self.parser.CharacterDataHandler = self.parser.EndElementHandler = None
            value = "".join(texts)
            kind = xlsx_kind(self.kind, value, self.num_texts or 0) if value else "empty"
            if kind == "unclear":
                self.scan.add_unclear(cell, value)
            elif kind == "date":
                self.scan.dates.append(cell)

        self.parser.CharacterDataHandler, self.parser.EndElementHandler = texts.append, stop

    def _listen(self, cell: int, before: str) -> None:
        """Keep the text of the element just begun; text is not listened to elsewhere, which would take seconds."""
        if cell in self.scan.texts:
            return  # a formula that gave an error: the formula is shown

        def stop(_name: str) -> None:
            self.parser.CharacterDataHandler = self.parser.EndElementHandler = None
            if self.scan.texts.get(cell) == "=":
                self.scan.keep_text(cell, "…")  # shared with another cell, which has its text

        self.scan.keep_text(cell, before)
        self.parser.CharacterDataHandler = lambda text: self.scan.keep_text(cell, text)
        self.parser.EndElementHandler = stop

    def _fill(self, cell: int) -> None:
        scan = self.scan
        scan.filled.append(cell)
        scan.last_row = max(scan.last_row, self.row)
        scan.last_column = max(scan.last_column, self.column)
        if self.row > self.max_rows:
            raise BadWorkbookError(
                f"{self.where}: has more rows than data.max_rows = {self.max_rows:,}; raise it if that is meant"
            )
        if len(scan.filled) > MAX_CELLS:
            raise BadWorkbookError(
                f"{self.where}: has more than {MAX_CELLS:,} cells; save the columns that are needed into a new workbook"
            )

    def _start_cell(self, attributes: dict[str, str]) -> None:
        self.counted = False
        self.column += 1
        reference = attributes.get("r")
        if reference is not None:
            position = _position(reference)
            if position is None or position[0] != self.row or position[1] < self.column:
                raise BadWorkbookError(
                    f"{self.where}: cell {reference[:20]!r} is written out of its place (row {self.row + 1:,}), so "
                    "readers may disagree on it; save it again in a spreadsheet program"
                )
            self.column = position[1]
        self.kind, self.has_value = attributes.get("t", "n"), False
        if self.kind == "e":
            self.scan.errors.append(self.row * NUM_COLUMNS + self.column)

    def _start_row(self, attributes: dict[str, str]) -> None:
        number = attributes.get("r")
        row = self.row + 1
        if number is not None:
            if not (number.isascii() and number.isdigit() and len(number) < 9 and int(number) > row):
                raise BadWorkbookError(
                    f"{self.where}: row {number[:20]!r} is written out of its place (after row {row:,}), so "
                    "readers may disagree on it; save it again in a spreadsheet program"
                )
            row = int(number) - 1
        self.row, self.column = row, -1
        self.scan.hidden_rows += attributes.get("hidden") in ("1", "true")


def _position(reference: str) -> tuple[int, int] | None:
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        return None
    column = 0
    for letter in match.group(1):
        column = 26 * column + ord(letter) - 64
    return (int(match.group(2)) - 1, column - 1) if 0 < column <= NUM_COLUMNS else None


def _area(reference: str) -> tuple[int, int, int, int] | None:
    first, _, last = reference.replace("$", "").partition(":")
    start, end = _position(first), _position(last or first)
    return None if start is None or end is None else (*start, *end)
