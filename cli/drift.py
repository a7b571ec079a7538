"""Showing on the terminal what changed from one workbook to another."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pii_finetune.drift import NUM_SHOWN, DataDrift, drift_table, points, visible


def show_drift(console: Console, drift: DataDrift) -> None:
    """Print fingerprints, figures and the first changed rows of each kind; labels are shown letter by letter."""
    for name, value in (("old", drift.old_fingerprint), ("new", drift.new_fingerprint)):
        console.print(f"{name} fingerprint {value}", highlight=False, soft_wrap=True)
    console.print(drift.summary, highlight=False, soft_wrap=True)
    if drift.fingerprints_equal:
        return
    console.print(
        f"sensitive: {drift.old_sensitive_share:.1%} before, {drift.new_sensitive_share:.1%} now; "
        f"total shift of languages {drift.language_shift:.3f} (0: none, 1: all)",
        highlight=False,
        soft_wrap=True,
    )
    languages = Table("language")
    for column in ("old", "new", "old share", "new share", "shift (points)"):
        languages.add_column(column, justify="right")
    for each in drift.languages:
        shares = (f"{each.old_share:.1%}", f"{each.new_share:.1%}", points(each))
        languages.add_row(Text(visible(each.language)), f"{each.num_old:,}", f"{each.num_new:,}", *shares)
    console.print(languages)
    _show_rows(console, drift)


def _show_rows(console: Console, drift: DataDrift) -> None:
    table = Table("change", "label", "language", "sensitive", "row")
    num_left = {}
    rows = drift_table(drift)
    for change in ("added", "removed", "relabelled"):
        changed = [row for row in rows if row["change"] == change]
        num_left[change] = len(changed) - NUM_SHOWN
        for row in changed[:NUM_SHOWN]:
            # Text, not str: rich would take [bold] or :smile: in a label for markup.
            cells = (change, row["label"], row["language"], _both(row, "sensitive"), _both(row, "row"))
            table.add_row(*(Text(visible(str(cell)), overflow="fold") for cell in cells))
    console.print(table)
    if left := ", ".join(f"{num:,} {change}" for change, num in num_left.items() if num > 0):
        console.print(f"not shown: {left}", highlight=False)


def _both(row: dict[str, str | int | None], what: str) -> str:
    """Return the value a row had and the one it has, or the only one there is."""
    return " -> ".join(str(value) for value in (row[f"old_{what}"], row[f"new_{what}"]) if value is not None)
