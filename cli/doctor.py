"""`pii-finetune doctor`."""

import os

from rich.console import Console
from rich.table import Table

from pii_finetune.doctor import Check, examine


def doctor() -> int:
    """Show every check; exit code 1 if one is red."""
    checks = [*examine(), _prefect()]
    table = Table(box=None, pad_edge=False)
    for column in ("", "what", "found", "what to do"):
        table.add_column(column)
    for check in checks:
        remedy = "" if check.level == "green" else check.remedy
        table.add_row(f"[{check.level}]●[/]", check.name, check.found, remedy)
    Console().print(table)
    return 1 if any(check.level == "red" for check in checks) else 0


def _prefect() -> Check:
    """Look for a Prefect API: here, because the package itself knows nothing of Prefect."""
    url = os.environ.get("PREFECT_API_URL", "")
    if not url:
        return Check("Prefect", "green", "no PREFECT_API_URL: a run starts a server of its own")
    import httpx

    try:
        status = httpx.get(f"{url.rstrip('/')}/health", timeout=5).status_code
    except httpx.HTTPError as error:
        return Check(
            "Prefect",
            "red",
            f"no answer from PREFECT_API_URL ({type(error).__name__})",
            "make up, or unset the variable",
        )
    return Check("Prefect", "green" if status == 200 else "red", f"API answers {status}", "look at the server's log")
