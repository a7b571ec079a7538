"""What a row is called: by its number, and where a folder of tables is the dataset by its file too ("5 of b.csv")."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

Place = int | str


@dataclass(frozen=True)
class FileRows:
    """The rows of one file among those of a folder, which are numbered through."""

    name: str
    offset: int  # added to the numbers its rows have in the file


def place_of(row: int, files: Sequence[FileRows]) -> Place:
    """Return what the row is called; `files` is empty where one file is the dataset."""
    if not files:
        return row
    file = files[bisect_left(files, row, key=lambda each: each.offset) - 1]
    return f"{row - file.offset} of {file.name}"


def order_of(place: Place) -> tuple[str, int]:
    """Return by what rows are sorted: file, then number."""
    number, _, name = str(place).partition(" of ")
    return name, int(number)


def list_places(places: Iterable[Place]) -> str:
    """Return rows as a message lists them, each file named once: "5, 7 of a.csv; 2 of b.csv"."""
    listed = []
    for name, rows in groupby(map(order_of, places), key=lambda each: each[0]):
        listed.append(", ".join(str(number) for _, number in rows) + (f" of {name}" if name else ""))
    return "; ".join(listed)
