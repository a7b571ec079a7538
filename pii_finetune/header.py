"""Finding columns by their names, and pointing out a header that stands too low."""

from collections.abc import Iterable, Sequence

from pii_finetune.errors import BadWorkbookError

NUM_SEARCHED = 30  # rows in which a header that does not stand first is looked for
_NUM_SHOWN = 20  # names of columns in a message

NumberedRow = tuple[int, Sequence[object]]


def places(wanted: str, header: Sequence[str]) -> list[int]:
    """Return where columns of that name stand, whatever its case and the spaces around it."""
    return [at for at, name in enumerate(header) if _fold(name) == _fold(wanted)]


def find_column(wanted: str, header: Sequence[str], where: str, remedy: str) -> int:
    """Return where the one column of that name stands.

    Raises:
        BadWorkbookError: there is none, for which `remedy` says what to do; or there are several.
    """
    matches = places(wanted, header)
    if len(matches) == 1:
        return matches[0]
    problem = f"has {len(matches)} columns named {wanted!r}" if matches else f"has no column {wanted!r}"
    raise BadWorkbookError(
        f"{where}: {problem} (columns found: {list_columns(header)}); {'keep one of them' if matches else remedy}"
    )


def list_columns(header: Iterable[str]) -> str:
    """Return what a message shows of the names in a header."""
    shown = [repr(name[:40]) for name in header if name]
    more = f" and {len(shown) - _NUM_SHOWN} more" if len(shown) > _NUM_SHOWN else ""
    return (", ".join(shown[:_NUM_SHOWN]) or "none") + more


def point_to_header(wanted: Sequence[str], first_rows: Iterable[NumberedRow]) -> str:
    """Return which of the rows names all wanted columns and what to do, or nothing."""
    for number, cells in first_rows:
        if {_fold(name) for name in wanted} <= {_fold(cell) for cell in cells if isinstance(cell, str)}:
            return f"row {number} looks like the header ({', '.join(wanted)}): delete the rows above it"
    return ""


def _fold(name: str) -> str:
    return name.strip().casefold()
