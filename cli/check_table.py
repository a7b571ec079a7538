"""What was looked at, a line each: a word for how it is, what it is, what was found; what to do stands below."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pii_finetune.checks import Check

_WORDS = {"green": ("ok", "green"), "yellow": ("note", "yellow"), "red": ("mend", "bold red")}


@dataclass(frozen=True)
class Line:
    """One row."""

    word: str
    style: str
    name: str
    told: tuple[str, ...]
    remedy: str = ""


def lines_of(checks: Iterable[Check]) -> list[Line]:
    """Return a row for each check; one that is in order needs no remedy."""
    return [
        Line(*_WORDS[check.level], check.name, (check.found,), "" if check.level == "green" else check.remedy)
        for check in checks
    ]


def print_lines(console: Console, sections: Sequence[tuple[str, Sequence[Line]]]) -> None:
    """Print the sections, one below the other and all in the same columns."""
    rows = [line for _, lines in sections for line in lines]
    longest = min(max((len(line.name) for line in rows), default=0), console.width // 3)
    word = max((len(line.word) for line in rows), default=0)
    for number, (title, lines) in enumerate((title, lines) for title, lines in sections if lines):
        if number:
            console.print()
        console.print(Text(title, "bold"))
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(min_width=word, no_wrap=True)
        table.add_column(width=longest, overflow="fold")
        table.add_column(overflow="fold")
        for line in lines:
            told = Text("\n").join(
                [*(Text(each) for each in line.told), *([Text(f"-> {line.remedy}", "dim")] if line.remedy else [])]
            )
            table.add_row(Text(line.word, line.style), Text(line.name), told)
        console.print(table)
