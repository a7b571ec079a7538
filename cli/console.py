"""Where the commands write: as wide as the terminal, and without one as wide as what is written."""

import os
import sys

from rich.console import Console

_NO_END = 10_000  # columns: a file, or the next program, has no edge at which to cut a table or break a line


def open_console(*, stderr: bool = False) -> Console:
    """Return a console on stdout, or stderr; COLUMNS sets its width."""
    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, width=None if is_terminal or os.environ.get("COLUMNS") else _NO_END)
