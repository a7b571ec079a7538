"""The tables of a source: a file or a folder of them, at a path or a URL, and what tells whether one changed."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError
from pii_finetune.remote_file import describe_remote, download_remote, is_remote, is_remote_folder, shown_source
from pii_finetune.score_copy import Columns, reading_settings
from pii_finetune.source_mark import local_source, telling_facts
from pii_finetune.table_folder import SUFFIXES, names_in, require_tables, tables_among

_IN_PIECES = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Table:
    """One of them."""

    name: str  # in its folder
    place: str  # its path or URL
    mark: dict[str, str]  # size, time and whatever else its file system knows of its content

    @property
    def suffix(self) -> str:
        """What says how it is read."""
        return Path(self.name).suffix.lower()

    def settings(self, columns: Columns) -> DataConfig:
        """Return the names of its columns, and limits."""
        return reading_settings(columns, self.suffix, int(self.mark.get("size", 0)))


def list_tables(source: str) -> tuple[list[Table], tuple[str, ...]]:
    """Return the source's tables by name, and notes on other files there.

    Raises:
        BadWorkbookError: there is no such source, or no table in it.
        SourceOutOfReachError: its server gives no answer.
    """
    if is_remote(source):
        base = f"{source.rstrip('/')}/" if is_remote_folder(source) else None
        found = describe_remote(source).items()
        return [Table(name, f"{base}{name}" if base else source, telling_facts(facts)) for name, facts in found], ()
    path = local_source(source)
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise BadWorkbookError(
                f"{path}: is of no kind that can be read ({path.suffix or 'no ending'}); "
                "give .xlsx, .ods, .csv, .tsv or .parquet, or a folder of these"
            )
        return [Table(path.name, str(path), _mark(path))], ()
    names, notes = tables_among(names_in(path))
    require_tables(str(path), names, notes)
    return [Table(name, str(path / name), _mark(path / name)) for name in names], notes


def require_unchanged(table: Table) -> None:
    """Raise BadWorkbookError if the table is not what it was when the work was planned."""
    if is_remote(table.place):
        (facts,) = describe_remote(table.place).values()
        mark = telling_facts(facts)
    else:
        mark = _mark(local_source(table.place))
    if mark != table.mark:
        raise BadWorkbookError(
            f"{shown_source(table.place)}: was written while it was scored; let nobody write there, "
            "and begin anew in another folder"
        )


@contextmanager
def readable(table: Table, workplace: str | None) -> Iterator[Path | str]:
    """Yield what the reader is given: a path, or the URL of a table that is read in pieces; others are downloaded."""
    if not is_remote(table.place):
        yield Path(table.place)
    elif table.suffix in _IN_PIECES:
        yield table.place
    else:
        with tempfile.TemporaryDirectory(prefix="pii-finetune-sheet-", dir=workplace) as folder:
            yield download_remote(table.place, Path(folder))[0]


def _mark(path: Path) -> dict[str, str]:
    file = path.stat()
    return {"size": str(file.st_size), "mtime": str(file.st_mtime_ns)}
