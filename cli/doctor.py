"""`pii-finetune doctor`."""

import dataclasses
import json
import os

from cli.check_table import lines_of, print_lines
from cli.console import open_console
from pii_finetune.checks import Check, guarded
from pii_finetune.doctor import examine


def doctor(as_json: bool) -> int:
    """Show every check; exit code 1 if one is red."""
    os.environ.setdefault("DO_NOT_TRACK", "1")  # Prefect's own code is asked what it would deploy
    sections = [*examine(), ("Prefect", _prefect())]
    checks = [check for _, part in sections for check in part]
    if as_json:
        told = [{"section": title, **dataclasses.asdict(check)} for title, part in sections for check in part]
        print(json.dumps(told, indent=2))
    else:
        console = open_console()
        print_lines(console, [(title, lines_of(part)) for title, part in sections])
        count = {level: sum(check.level == level for check in checks) for level in ("green", "yellow", "red")}
        console.print(f"\n{count['green']} ok, {count['yellow']} to note, {count['red']} to mend", highlight=False)
    return 1 if any(check.level == "red" for check in checks) else 0


def _prefect() -> list[Check]:
    """Look at the Prefect server: here, because the package itself knows nothing of Prefect."""
    from prefect.settings import get_current_settings

    from cli.doctor_variables import check_variables

    checks = guarded("environment", check_variables)
    if not get_current_settings().api.url:
        return [Check("Prefect", "green", "no PREFECT_API_URL: a run starts a server of its own"), *checks]
    from cli.prefect_probe import probe_prefect

    server = probe_prefect()
    if not any(check.level == "red" for check in server):
        from cli.doctor_prefect import examine_server

        server += examine_server()
    return [*server, *checks]
