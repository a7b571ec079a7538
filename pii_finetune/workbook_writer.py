"""Writing labelled rows as a workbook that `read_workbook` reads, whole or not at all."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from openpyxl import Workbook

from pii_finetune.errors import UserError

COLUMNS = ("label", "language", "sensitive")


def check_target(target: Path) -> None:
    """Refuse a target that could not be written, before the work and not after it.

    Raises:
        UserError: the ending is not .xlsx, or the folder is not there or not ours to write to.
    """
    if target.suffix != ".xlsx":
        raise UserError(f"--out {target}: the ending must be .xlsx; a workbook is written")
    if not target.parent.is_dir():
        raise UserError(f"--out {target}: there is no folder {target.parent}; make it first")
    if target.is_dir() or not os.access(target.parent, os.W_OK):
        reason = "is a folder" if target.is_dir() else f"nothing can be written to {target.parent}"
        raise UserError(f"--out {target}: {reason}; name a file in a folder you can write to")


def write_rows(rows: Iterable[tuple[str, str, str]], target: Path) -> None:
    """Write rows of label, language and yes or no; every cell is text, whatever it starts with.

    Raises:
        UserError: the file cannot be written.
    """
    book = Workbook()
    sheet = book.worksheets[0]
    sheet.title = "labels"
    for number, row in enumerate((COLUMNS, *rows), start=1):
        for column, text in enumerate(row, start=1):
            cell = sheet.cell(number, column, text)
            cell.data_type = "s"  # openpyxl takes "=..." for a formula
    sheet.freeze_panes = "A2"
    name = None
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.stem}-", suffix=target.suffix)
        os.close(handle)
        book.save(name)
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except OSError as error:
        raise UserError(f"--out {target}: cannot be written ({error.strerror}); free space or name another") from None
    finally:
        if name is not None:
            Path(name).unlink(missing_ok=True)
