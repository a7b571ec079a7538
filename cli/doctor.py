"""`pii-finetune doctor`."""

import dataclasses
import json
import os
from collections.abc import Callable

from cli.check_table import lines_of, print_lines
from cli.console import open_console
from pii_finetune.checks import Check, guarded
from pii_finetune.doctor import examine


def doctor(as_json: bool) -> int:
    """Show every check; exit code 1 if one is red."""
    os.environ.setdefault("DO_NOT_TRACK", "1")  # Prefect's own code is asked what it would deploy
    answer = _begin_prefect()
    sections = [*examine(), ("Prefect", _prefect(answer))]
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


def _begin_prefect() -> Callable[[], list[Check]] | None:
    """Ask the Prefect server while all else is looked at; here, for the package itself knows nothing of Prefect."""
    from prefect.settings import get_current_settings

    if not get_current_settings().api.url:
        return None
    from cli.prefect_probe import begin_probe

    return begin_probe()


def _prefect(answer: Callable[[], list[Check]] | None) -> list[Check]:
    from cli.doctor_variables import check_variables

    if answer is None:
        server = [Check("Prefect", "green", "no PREFECT_API_URL: a run starts a server of its own")]
    else:
        server = answer()
        if not any(check.level == "red" for check in server):
            from cli.doctor_prefect import examine_server

            server += examine_server()
    return [*server, *guarded("environment", check_variables)]
