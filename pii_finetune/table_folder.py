"""Which files of a folder are tables, and which are left alone."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from pii_finetune.errors import BadWorkbookError

SUFFIXES = (".xlsx", ".xlsm", ".ods", ".csv", ".tsv", ".parquet")
_HIDDEN = (".", "~")  # ~$labels.xlsx: Excel's, of a workbook that is open
_UNFINISHED = (".tmp", ".part", ".partial", ".crdownload", ".lock", ".swp", "~")
_NUM_NAMED = 20


def tables_among(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of tables, sorted, and for each kind of other name a note on what is not read."""
    tables, temporary, unknown = [], [], []
    for name in sorted(names):
        if name.startswith(_HIDDEN) or name.lower().endswith(_UNFINISHED):
            temporary.append(name)
        elif name.lower().endswith(SUFFIXES):
            tables.append(name)
        else:
            unknown.append(name)
    kinds = (("hidden or temporary", temporary), ("of no kind that is read", unknown))
    return tuple(tables), tuple(f"not read ({what}): {_name(names)}" for what, names in kinds if names)


def require_tables(folder: str, tables: tuple[str, ...], notes: tuple[str, ...]) -> None:
    """Raise BadWorkbookError if a folder holds none."""
    if not tables:
        found = "; ".join(notes) or "it is empty"
        raise BadWorkbookError(
            f"{folder}: holds no table ({found}); put .xlsx, .ods, .csv, .tsv or .parquet files there"
        )


def names_in(folder: Path) -> Iterator[str]:
    """Yield the names in a folder; those of folders end in a slash, so that they are no tables.

    Raises:
        BadWorkbookError: it cannot be read.
    """
    try:
        for path in folder.iterdir():
            yield path.name if path.is_file() else f"{path.name}/"
    except OSError as error:
        raise BadWorkbookError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from None


def _name(names: list[str]) -> str:
    more = f" and {len(names) - _NUM_NAMED:,} more" if len(names) > _NUM_NAMED else ""
    return ", ".join(names[:_NUM_NAMED]) + more
