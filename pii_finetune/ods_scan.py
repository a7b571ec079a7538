"""The second reader of .ods spreadsheets: formulas, false values, merged and filled cells of one table."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

from pii_finetune.archive import parse_part
from pii_finetune.cell_values import ods_kind
from pii_finetune.errors import BadWorkbookError
from pii_finetune.sheet_scan import MAX_CELLS, NUM_COLUMNS, SheetScan

_NAMESPACE = re.compile(r"^(?:[a-z]+:)?=?")  # of:= in of:=A2


def scan_table(path: Path, archive: zipfile.ZipFile, table: str, max_rows: int) -> SheetScan:
    """Read the table's XML as a stream; repeated rows and cells count as often as they stand for.

    Raises:
        BadWorkbookError: it has more than `max_rows` rows below the header, or too many cells.
    """
    scan = SheetScan()
    handler = _Handler(scan, table, f"{path}, sheet {table!r}", max_rows)
    parser = handler.parser
    parser.StartElementHandler = handler.start
    parser.EndElementHandler = handler.end
    parser.StartCdataSectionHandler = handler.refuse_cdata
    parse_part(path, archive, "content.xml", parser)
    return scan


class _Handler:
    def __init__(self, scan: SheetScan, table: str, where: str, max_rows: int) -> None:
        self.scan, self.table, self.where, self.max_rows = scan, table, where, max_rows
        self.parser = expat.ParserCreate()
        self.inside = False
        self.depth = 0  # of tables in tables
        self.row = self.next_row = self.next_column = 0
        self.columns = range(0)  # of the present cell, which may be repeated
        self.has_type = True  # the present cell
        self.in_comment = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "table:table":
            self._start_table(attributes)
        elif not self.inside:
            return
        elif name == "table:table-row":
            self.row, self.next_column = self.next_row, 0
            self.repeats = _count(attributes, "table:number-rows-repeated")
            self.next_row += self.repeats
            if attributes.get("table:visibility") in ("collapse", "filter"):
                self.scan.hidden_rows += self.repeats
        elif name in ("table:table-cell", "table:covered-table-cell"):
            self._cell(attributes)
        elif name == "office:annotation":  # a comment, which is no content
            self.in_comment = True
            self.parser.CharacterDataHandler = None
        elif name in ("text:tab", "text:line-break") and not self.in_comment:  # which the other reader drops
            self._note_unclear(self.columns, "")

    def refuse_cdata(self) -> None:
        """Refuse text that the other reader drops, and that no spreadsheet program writes."""
        raise BadWorkbookError(
            f"{self.where}: the text near row {self.row + 1:,} is written as CDATA, which readers drop; "
            "save it again in a spreadsheet program"
        )

    def _start_table(self, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > 1:  # where the other reader takes the inner table's end for the whole table's
            raise BadWorkbookError(
                f"{self.where}: a cell near row {self.row + 1:,} of a sheet holds a table of its own, at which readers "
                "lose the rows that follow; put its content into plain cells and save again"
            )
        self.inside = attributes.get("table:name") == self.table
        self.has_type = True
        self._listen()

    def end(self, name: str) -> None:
        if name == "table:table":
            self.depth -= 1
            self.inside = self.inside and self.depth > 0
        elif name == "office:annotation":
            self.in_comment = False
            self._listen()

    def _listen(self) -> None:
        """Refuse text in a cell that states no type: the other reader does not show it."""

        def refuse(text: str) -> None:
            if text.strip():
                self._fill(self.columns)
                self._note_unclear(self.columns, text)
                self.parser.CharacterDataHandler = None

        self.parser.CharacterDataHandler = None if self.has_type else refuse

    def _note_unclear(self, columns: range, text: str) -> None:
        for cell in self._cells(columns):
            self.scan.add_unclear(cell, text)

    def _cells(self, columns: range) -> Iterator[int]:
        return (row * NUM_COLUMNS + at for row in range(self.row, self.next_row) for at in columns)

    def _cell(self, attributes: dict[str, str]) -> None:
        first = self.next_column
        self.next_column += _count(attributes, "table:number-columns-repeated")
        self.columns = columns = range(first, min(self.next_column, NUM_COLUMNS))
        kind, value = ods_kind(attributes)
        self.has_type = kind != ""
        self._listen()
        if self.has_type or "table:formula" in attributes:
            self._fill(columns)
        if kind == "unclear":
            self._note_unclear(columns, value)
        elif kind == "date":
            self.scan.dates.extend(self._cells(columns))
        if "table:formula" in attributes:
            self.scan.formulas.extend(self._cells(columns))
            if columns:
                formula = _NAMESPACE.sub("=", attributes["table:formula"], count=1)
                self.scan.texts.pop(self.row * NUM_COLUMNS + first, None)
                self.scan.keep_text(self.row * NUM_COLUMNS + first, formula)
        height = _count(attributes, "table:number-rows-spanned")
        width = _count(attributes, "table:number-columns-spanned")
        if height * width > 1:
            self.scan.merged.append((self.row, first, self.row + height - 1, first + width - 1))

    def _fill(self, columns: range) -> None:
        scan = self.scan
        if self.next_row - 1 > self.max_rows:
            raise BadWorkbookError(
                f"{self.where}: has more rows than data.max_rows = {self.max_rows:,}; raise it if that is meant"
            )
        if len(scan.filled) + len(columns) * self.repeats > MAX_CELLS:
            raise BadWorkbookError(
                f"{self.where}: has more than {MAX_CELLS:,} cells; save the columns that are needed into a new file"
            )
        scan.filled.extend(self._cells(columns))
        scan.last_row = max(scan.last_row, self.next_row - 1)
        scan.last_column = max(scan.last_column, columns.stop - 1)


def _count(attributes: dict[str, str], name: str) -> int:
    """Return how often a row or cell stands, at least once and never more than a sheet can hold."""
    text = attributes.get(name, "1")
    return max(1, min(int(text), 1 << 21)) if text.isascii() and text.isdigit() and len(text) < 12 else 1
