"""Reading the workbook: which cells hold what, before anything is judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from python_calamine import CalamineError, CalamineWorkbook, SheetVisibleEnum

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError
from pii_finetune.paths import resolve


@dataclass(frozen=True)
class Table:
    """The rows of one sheet: columns `row` (number in the sheet, from 2), `label`, `language`, `sensitive`, as read."""

    path: Path
    sheet: str
    rows: pd.DataFrame
    extra_columns: tuple[str, ...]  # present in the sheet, never trained on


def read_workbook(config: DataConfig) -> Table:
    """Read the configured sheet of the configured workbook.

    Raises:
        BadWorkbookError: the file is not a readable .xlsx workbook, or the sheet or a column is not there.
    """
    path = resolve(config.workbook)
    sheet, cells = _read_cells(path, config.sheet)
    if not cells:
        raise BadWorkbookError(f"{path}, sheet {sheet!r}: is empty; the first row must name the columns")
    header = ["" if cell is None else str(cell).strip() for cell in cells[0]]
    wanted = {
        "label": config.label_column,
        "language": config.language_column,
        "sensitive": config.sensitive_column,
    }
    position = {ours: _find_column(theirs, header, path, sheet) for ours, theirs in wanted.items()}
    if len(cells) - 1 > config.max_rows:
        raise BadWorkbookError(
            f"{path}, sheet {sheet!r}: has {len(cells) - 1:,} rows, more than data.max_rows = {config.max_rows:,}; "
            "raise it if that is meant"
        )
    body = {ours: [row[at] for row in cells[1:]] for ours, at in position.items()}
    rows = pd.DataFrame({"row": range(2, len(cells) + 1), **body}, dtype=object)
    blank = rows[list(wanted)].map(lambda cell: cell is None or cell == "").all(axis=1)
    used = [name for at, name in enumerate(header) if name and at not in position.values()]
    return Table(path, sheet, rows.loc[~blank].reset_index(drop=True), tuple(used))


def _read_cells(path: Path, wanted: str | None) -> tuple[str, Sequence[Sequence[object]]]:
    if not path.exists():
        raise BadWorkbookError(f"{path}: there is no such file; check the path")
    if not path.is_file():
        raise BadWorkbookError(f"{path}: is not a file; give an .xlsx workbook")
    try:
        with path.open("rb") as file, CalamineWorkbook.from_object(file) as book:
            visible = [s.name for s in book.sheets_metadata if s.visible == SheetVisibleEnum.Visible]
            if wanted is not None and wanted not in book.sheet_names:
                names = ", ".join(repr(name) for name in book.sheet_names)
                raise BadWorkbookError(f"{path}: has no sheet {wanted!r}; data.sheet can be one of {names}")
            if wanted is None and not visible:
                raise BadWorkbookError(f"{path}: has no visible sheet; name one with data.sheet")
            name = wanted if wanted is not None else visible[0]
            return name, book.get_sheet_by_name(name).to_python(skip_empty_area=False)
    except (CalamineError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise BadWorkbookError(
            f"{path}: cannot be read as an .xlsx workbook ({reason}); "
            "open it in a spreadsheet program and save it as .xlsx"
        ) from None


def _find_column(wanted: str, header: list[str], path: Path, sheet: str) -> int:
    matches = [at for at, name in enumerate(header) if name.casefold() == wanted.strip().casefold()]
    if len(matches) == 1:
        return matches[0]
    found = ", ".join(repr(name) for name in header if name) or "none"
    problem = f"has {len(matches)} columns named {wanted!r}" if matches else f"has no column {wanted!r}"
    remedy = (
        "keep one of them"
        if matches
        else "rename one, or set data.label_column, data.language_column, data.sensitive_column"
    )
    raise BadWorkbookError(f"{path}, sheet {sheet!r}: {problem} (columns found: {found}); {remedy}")
