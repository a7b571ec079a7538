"""A copy of the workbook in which each bad cell carries a comment; runs in the reader's process."""

from pathlib import Path
from typing import Any

from openpyxl import load_workbook
from openpyxl.comments import Comment
from openpyxl.styles import PatternFill

from pii_finetune.archive import checked_archive
from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError

_FILL = PatternFill("solid", fgColor="FFE0B3")


def mark_cells(path: Path, config: DataConfig, sheet: str, marks: list[dict[str, Any]], target: Path) -> None:
    """Write the copy to `target`; cells that are not named stay as they are.

    Raises:
        BadWorkbookError: the workbook cannot be opened for a change.
    """
    with checked_archive(path, "xl/workbook.xml"):
        pass
    try:
        book = load_workbook(path)
        page = book[sheet]
    except Exception as error:  # noqa: BLE001  whatever openpyxl finds odd in a file the other readers took
        raise BadWorkbookError(
            f"{path}: cannot be copied with comments ({type(error).__name__}: {str(error)[:120]}); "
            "mend it by the report"
        ) from None
    wanted = {"label": config.label_column, "language": config.language_column, "sensitive": config.sensitive_column}
    header = {str(cell.value).strip().casefold(): cell.column for cell in page[1] if cell.value is not None}
    for mark in marks:
        column = header[wanted[mark["column"]].strip().casefold()]
        cell = page.cell(mark["row"], column)
        if hasattr(cell, "fill") and type(cell).__name__ != "MergedCell":
            text = f"{cell.comment.text}\n{mark['message']}" if cell.comment else mark["message"]
            cell.comment = Comment(text, "pii-finetune", height=90, width=320)
            cell.fill = _FILL
    book.save(target)
