"""Reading the workbook: which cells hold what, before anything is judged."""

from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError
from pii_finetune.hub_dataset import download_split, is_hub_dataset
from pii_finetune.isolation import read_isolated
from pii_finetune.paths import resolve
from pii_finetune.remote_file import download_remote, is_remote


@dataclass(frozen=True)
class Table:
    """The rows of one table, as read.

    Columns: `row` (number in the sheet, from 2), and for each of `label`, `language` and `sensitive` its text (None:
    empty) and, as `label_kind` and so on, what the cell was: text, number, boolean, date, error, formula, unclear
    (programs differ on it), merged, other or empty. Where the table names categories, also `category` (None: empty).
    """

    path: Path  # of a hub dataset: owner/name
    sheet: str  # empty: a file without sheets; of a hub dataset: its split
    rows: pd.DataFrame
    extra_columns: tuple[str, ...]  # present in the sheet, never trained on
    notes: tuple[str, ...] = ()  # what its owner should know, though nothing is wrong

    @property
    def where(self) -> str:
        """The file and, if it has one, the sheet."""
        return f"{self.path}, sheet {self.sheet!r}" if self.sheet else str(self.path)


def read_workbook(config: DataConfig) -> Table:
    """Read the configured sheet of the configured file (.xlsx, .ods, .csv, .tsv or .parquet) or hub dataset.

    Raises:
        BadWorkbookError: the file cannot be read or trusted, or the sheet or a column is not there.
    """
    if is_hub_dataset(config.workbook):
        return _read_hub_dataset(config)
    if is_remote(config.workbook):
        with TemporaryDirectory(prefix="pii-finetune-remote-") as folder:
            return _read_file(download_remote(config.workbook, Path(folder)), config)
    path = resolve(config.workbook)
    if not path.exists():
        raise BadWorkbookError(f"{path}: there is no such file; check the path")
    if not path.is_file():
        raise BadWorkbookError(f"{path}: is not a file; give a workbook, e.g. an .xlsx file")
    return _read_file(path, config)


def _read_file(path: Path, config: DataConfig) -> Table:
    found, rows = read_isolated(path, config)
    frame = rows.to_pandas().astype(object)
    frame = frame.where(frame.notna(), None)
    return Table(path, found["sheet"], frame, tuple(found["extra_columns"]), tuple(found["notes"]))


def _read_hub_dataset(config: DataConfig) -> Table:
    source = config.workbook
    with TemporaryDirectory(prefix="pii-finetune-hub-") as folder:
        path, split = download_split(source, config.sheet, Path(folder))
        try:
            table = _read_file(path, config)
        except BadWorkbookError as error:  # the user knows the dataset, not the file it was put into
            raise BadWorkbookError(str(error).replace(str(path), source)) from None
    return replace(table, path=Path(source.removeprefix("hf:").strip("/")), sheet=split)
