"""Spreadsheets, each read twice: by calamine for its cells, and as XML for what calamine does not show."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from python_calamine import CalamineWorkbook, SheetTypeEnum, SheetVisibleEnum

from pii_finetune.archive import checked_archive
from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError
from pii_finetune.header import NUM_SEARCHED
from pii_finetune.odd_cells import named_if_odd, odd_cells_of_ods, odd_cells_of_xlsx
from pii_finetune.ods_scan import scan_table
from pii_finetune.sheet_scan import SheetScan
from pii_finetune.tables import RawTable
from pii_finetune.xlsx_scan import scan_sheet

_DISAGREE = (
    "two readers do not agree on {}, so the file is damaged or made to deceive; "
    "open it in a spreadsheet program and save it again"
)


@contextmanager
def read_xlsx(path: Path, config: DataConfig) -> Iterator[RawTable]:
    """Open the chosen sheet of an .xlsx workbook."""
    with checked_archive(path, "xl/workbook.xml") as archive, path.open("rb") as file:
        with named_if_odd(path, lambda: ()):
            book = CalamineWorkbook.from_object(file)
        sheet, notes, hint = _choose_sheet(book, path, config.sheet)
        scan = scan_sheet(path, archive, sheet, config.max_rows)
        with named_if_odd(path, lambda: odd_cells_of_xlsx(path, archive, sheet, config.max_rows)):
            cells = book.get_sheet_by_name(sheet).to_python(skip_empty_area=False)
        raw = _raw(cells, sheet, scan, path, notes, hint)
        del cells  # or a million rows would stay beside what is made of them
        yield raw


@contextmanager
def read_ods(path: Path, config: DataConfig) -> Iterator[RawTable]:
    """Open the chosen sheet of an .ods spreadsheet."""
    with checked_archive(path, "content.xml") as archive, path.open("rb") as file:
        with named_if_odd(path, lambda: odd_cells_of_ods(path, archive, config.max_rows)):
            book = CalamineWorkbook.from_object(file)  # reads all tables
        sheet, notes, hint = _choose_sheet(book, path, config.sheet)
        scan = scan_table(path, archive, sheet, config.max_rows)
        cells = book.get_sheet_by_name(sheet).to_python(skip_empty_area=False)
        raw = _raw(cells, sheet, scan, path, notes, hint)
        del cells  # or a million rows would stay beside what is made of them
        yield raw


def _choose_sheet(book: CalamineWorkbook, path: Path, wanted: str | None) -> tuple[str, list[str], str]:
    """Return its name, what its owner should know, and what to add where the table is not found on it."""
    visible = [
        s.name
        for s in book.sheets_metadata
        if s.visible == SheetVisibleEnum.Visible and s.typ == SheetTypeEnum.WorkSheet
    ]
    num_hidden = sum(s.visible != SheetVisibleEnum.Visible for s in book.sheets_metadata)
    if wanted is not None and wanted not in book.sheet_names:
        names = ", ".join(repr(name[:40]) for name in book.sheet_names[:50])
        raise BadWorkbookError(f"{path}: has no sheet {wanted!r}; data.sheet can be one of {names}")
    if not book.sheet_names:
        raise BadWorkbookError(
            f"{path}: has no sheet that can be read; save it again in a spreadsheet program as .xlsx"
        )
    if wanted is None and not visible:
        raise BadWorkbookError(f"{path}: has no visible sheet; name one with data.sheet")
    chosen = visible[0] if wanted is None else wanted
    if book.sheet_names.count(chosen) > 1:
        raise BadWorkbookError(
            f"{path}: has several sheets named {chosen[:40]!r}, and readers differ on which one is meant; "
            "rename all but one"
        )
    others = ", ".join(repr(name[:40]) for name in visible[1:20]) if wanted is None else ""
    hint = f"; if the table is on another sheet, name it with data.sheet: {others}" if others else ""
    notes = [f"{num_hidden} hidden sheets are there; a hidden sheet is read only if data.sheet names it"]
    return chosen, notes if num_hidden else [], hint


def _raw(cells: list[list[Any]], sheet: str, scan: SheetScan, path: Path, notes: list[str], hint: str) -> RawTable:
    where = f"{path}, sheet {sheet!r}"
    if not cells and scan.last_row >= 0:
        raise BadWorkbookError(f"{where}: {_DISAGREE.format(f'row {scan.last_row + 1:,}')}")
    if not cells:
        raise BadWorkbookError(f"{where}: is empty; the first row must name the columns{hint}")
    if scan.hidden_rows:
        notes = [*notes, f"{scan.hidden_rows:,} hidden rows are read like the others"]
    header = ["" if cell is None else str(cell).strip() for cell in cells[0]]
    cells += [[""] * len(cells[0]) for _ in range(len(cells), scan.last_row + 1)]  # whose content only the scan sees
    first_rows = list(enumerate(cells[:NUM_SEARCHED], start=1))
    return RawTable(
        sheet,
        header,
        enumerate(cells[1:], start=2),
        first_rows,
        notes,
        partial(_special_kinds, scan, where),
        hint,
    )


def _special_kinds(
    scan: SheetScan, where: str, positions: Sequence[int], filled: Sequence[set[int]]
) -> dict[tuple[int, int], tuple[str, str | None]]:
    """Return the kinds, and texts to show, that only the scan knows, by row number and place in `positions`.

    Raises:
        BadWorkbookError: the two readers do not agree on which cells hold something.
    """
    place = {column: at for at, column in enumerate(positions)}
    seen: list[set[int]] = [set() for _ in positions]
    for cell in scan.filled:
        at = place.get(cell & 0x3FFF)
        if at is not None:
            seen[at].add((cell >> 14) + 1)
    for ours, theirs in zip(filled, seen, strict=True):
        unseen = ours - theirs
        if unseen:
            raise BadWorkbookError(f"{where}: {_DISAGREE.format(f'row {min(unseen):,} and {len(unseen) - 1:,} more')}")
    kinds: dict[tuple[int, int], tuple[str, str | None]] = {}
    for top, left, bottom, right in scan.merged:
        touched = [at for column, at in place.items() if left <= column <= right]
        if (top, left) != (bottom, right) and touched:
            last = min(bottom, scan.last_row)
            kinds |= {(row + 1, at): ("merged", None) for row in range(max(top, 1), last + 1) for at in touched}
    of_a_kind = (
        (scan.dates, "date"),
        (scan.errors, "error"),
        (scan.unclear, "unclear"),
        (scan.formulas, "formula"),
    )
    for found, kind in of_a_kind:
        kinds |= {
            ((cell >> 14) + 1, place[cell & 0x3FFF]): (kind, scan.texts.get(cell))
            for cell in found
            if cell & 0x3FFF in place
        }
    return kinds
