"""Tables as a person, a file, or a terminal of 80 columns gets them."""

import os
import subprocess
import sys
from types import SimpleNamespace

from rich.console import Console

from cli.run import _models_table

SHOW = """
from rich.table import Table
from cli.console import open_console
table = Table("a long header of a column", "another header that is long", "a third one, and there is no end to it")
open_console().print(table)
"""


def test_without_a_terminal_no_header_is_cut():
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    command = [sys.executable, "-c", SHOW]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "a third one, and there is no end to it" in shown


def test_the_table_of_models_fits_a_terminal_of_80_columns():
    names = ("accuracy", "precision", "recall", "f1", "auroc", "ece", "format_validity", "unseen_accuracy")
    rows = [{"model": model, **dict.fromkeys(names, 0.5)} for model in ("original", "production", "n-grams")]
    console = Console(width=80)
    with console.capture() as capture:
        console.print(_models_table(SimpleNamespace(summary_rows=lambda: rows)))
    assert "…" not in capture.get()
    assert all(word in capture.get() for word in ("precision", "validity", "production", "0.500"))
