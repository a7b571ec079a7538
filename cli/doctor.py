"""`pii-finetune doctor`."""

import os

from rich.table import Table

from cli.console import open_console
from pii_finetune.doctor import Check, check_server, examine

_WORDS = {"green": "ok", "yellow": "note", "red": "mend"}


def doctor() -> int:
    """Show every check; exit code 1 if one is red."""
    prefect = _prefect()
    checks = [*examine(), prefect]
    if os.environ.get("PREFECT_API_URL") and prefect.level != "red":
        from cli.doctor_prefect import examine_server

        checks += examine_server()
    table = Table(box=None, pad_edge=False)
    for column in ("", "what", "found", "what to do"):
        table.add_column(column)
    for check in checks:
        remedy = "" if check.level == "green" else check.remedy
        table.add_row(f"[{check.level}]{_WORDS[check.level]}[/]", check.name, check.found, remedy)
    open_console().print(table)
    return 1 if any(check.level == "red" for check in checks) else 0


def _prefect() -> Check:
    """Look for a Prefect API: here, because the package itself knows nothing of Prefect."""
    url = os.environ.get("PREFECT_API_URL", "")
    if not url:
        return Check("Prefect", "green", "no PREFECT_API_URL: a run starts a server of its own")
    return check_server("Prefect", url, "PREFECT_API_URL", "make up, or unset the variable")
