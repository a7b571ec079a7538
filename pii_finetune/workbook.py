"""Reading the workbook: which cells hold what, before anything is judged."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError
from pii_finetune.hub_dataset import download_split, is_hub_dataset
from pii_finetune.isolation import read_isolated
from pii_finetune.language_choice import choose_rows
from pii_finetune.remote_file import download_remote, is_remote, shown_url
from pii_finetune.row_place import FileRows
from pii_finetune.source_mark import local_source
from pii_finetune.table_folder import names_in, require_tables, tables_among


@dataclass(frozen=True)
class Table:
    """The rows of one table, as read, or of a folder's tables one after the other.

    Columns: `row` (number in the sheet, from 2; `files` says which file's, of a folder), and for each of `label`,
    `language` and `sensitive` its text (None: empty) and, as `label_kind` and so on, what the cell was: text, number,
    boolean, date, error, formula, unclear (programs differ on it), merged, other or empty. Where the table names
    categories, also `category` (None: empty).
    """

    path: Path  # of a hub dataset: owner/name; of one at a URL: its name
    sheet: str  # empty: a file without sheets; of a hub dataset: its split
    rows: pd.DataFrame
    extra_columns: tuple[str, ...]  # present in the sheet, never trained on
    notes: tuple[str, ...] = ()  # what its owner should know, though nothing is wrong
    url: str = ""  # where it is, if that is no path; without secrets
    files: tuple[FileRows, ...] = ()  # of a folder

    @property
    def where(self) -> str:
        """The file, folder or URL and, if it has one, the sheet."""
        source = self.url or str(self.path)
        return f"{source}, sheet {self.sheet!r}" if self.sheet else source


def read_workbook(config: DataConfig) -> Table:
    """Read the configured sheet of the configured source.

    That is a file (.xlsx, .ods, .csv, .tsv or .parquet), a folder of such files, one of both at a URL, or a dataset of
    the hub; with `data.languages` without the rows of other languages.

    Raises:
        BadWorkbookError: it cannot be read or trusted, or the sheet, a column or a language is not there.
        SourceOutOfReachError: it may be good; it could not be had this time.
    """
    table = _read(config)
    if config.languages is None:
        return table
    rows, notes = choose_rows(table.rows, config.languages, table.where)
    return replace(table, rows=rows, notes=(*table.notes, *notes))


def _read(config: DataConfig) -> Table:
    if is_hub_dataset(config.workbook):
        return _read_hub_dataset(config)
    if is_remote(config.workbook):
        return _read_remote(config)
    path = local_source(config.workbook)
    return _read_folder(path, config, ()) if path.is_dir() else _read_file(path, config)


def _read_file(path: Path, config: DataConfig) -> Table:
    found, rows = read_isolated(path, config)
    frame = rows.to_pandas().astype(object)
    frame = frame.where(frame.notna(), None)
    return Table(path, found["sheet"], frame, tuple(found["extra_columns"]), tuple(found["notes"]))


def _read_folder(folder: Path, config: DataConfig, notes: Sequence[str]) -> Table:
    """Read the tables of a folder in the order of their names, as one."""
    names, unread = tables_among(names_in(folder))
    require_tables(str(folder), names, unread)
    tables, files, last = [], [], 0
    for name in names:
        table = _read_file(folder / name, config)
        files.append(FileRows(name, last))
        tables.append(replace(table, rows=table.rows.assign(row=table.rows["row"] + last)))
        last = int(max(tables[-1].rows["row"], default=last))
        if sum(len(each.rows) for each in tables) > config.max_rows:
            raise BadWorkbookError(
                f"{folder}: has more rows than data.max_rows = {config.max_rows:,}; raise it if that is meant"
            )
    frame = pd.concat([each.rows for each in tables], ignore_index=True)
    return Table(
        folder,
        "",
        frame.where(frame.notna(), None),
        tuple(dict.fromkeys(column for each in tables for column in each.extra_columns)),
        (*unread, *notes, *(f"{each.path.name}: {note}" for each in tables for note in each.notes)),
        files=tuple(files),
    )


def _read_remote(config: DataConfig) -> Table:
    url = shown_url(config.workbook)
    with TemporaryDirectory(prefix="pii-finetune-remote-") as folder:
        path, notes = download_remote(config.workbook, Path(folder))
        try:
            table = _read_folder(path, config, notes) if path.is_dir() else _read_file(path, config)
        except BadWorkbookError as error:  # the user knows the URL, not the copy
            raise type(error)(str(error).replace(str(path), url)) from None
    return replace(table, path=Path(path.name), url=url)


def _read_hub_dataset(config: DataConfig) -> Table:
    source = config.workbook
    with TemporaryDirectory(prefix="pii-finetune-hub-") as folder:
        path, split = download_split(source, config.sheet, Path(folder))
        try:
            table = _read_file(path, config)
        except BadWorkbookError as error:  # the user knows the dataset, not the file it was put into
            raise type(error)(str(error).replace(str(path), source)) from None
    return replace(table, path=Path(source.removeprefix("hf:").strip("/")), sheet=split)
