"""`pii-finetune deploy-check`: is prefect.yaml in order, and what would deploying it change? Writes nothing."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from cli.check_table import Line, lines_of, print_lines
from cli.console import open_console
from cli.deploy_file import DeployFile, read_deploy_file
from pii_finetune.checks import Check
from pii_finetune.quiet import quiet_loggers, quiet_warnings

_OUTCOMES = {
    "new": ("new", "green"),
    "changed": ("change", "yellow"),
    "same": ("same", "dim"),
    "left": ("left", "dim"),
    "failed": ("mend", "bold red"),
}


def deploy_check(path: Path) -> int:
    """Show the faults of the file, and with a server what would change there; exit code 1 if there is a fault."""
    quiet_loggers()
    quiet_warnings()
    os.environ.setdefault("DO_NOT_TRACK", "1")  # Prefect's code for deploying would tell that it was used
    file = read_deploy_file(path.resolve())
    with contextlib.chdir(file.path.parent):  # entrypoints are looked for here, as `prefect deploy` does
        faults = lint(file)
        sections = [(f"{path}", lines_of(faults or [_in_order(file)]))]
        server, plan = _against_server(file)
    sections += [("on the server", [*lines_of(server), *plan])]
    print_lines(open_console(), sections)
    is_faulty = any(check.level == "red" for check in [*faults, *server]) or any(line.word == "mend" for line in plan)
    return 1 if is_faulty else 0


def lint(file: DeployFile) -> list[Check]:
    """Return what is wrong with the file, in its order."""
    from cli.deploy_keys import check_keys
    from cli.deploy_placeholders import check_placeholders
    from cli.deploy_steps import check_steps
    from cli.deploy_values import check_deployments, check_version

    looks: tuple[Callable[[DeployFile], list[Check]], ...] = (
        *(check_version, check_keys, check_steps, check_placeholders, check_deployments),
    )
    faults = [fault for look in looks for fault in look(file)]
    return sorted(faults, key=lambda fault: int(fault.name.rpartition(":")[2]))


def _in_order(file: DeployFile) -> Check:
    import prefect

    number = len(file.values["deployments"])
    return Check(file.path.name, "green", f"{number} deployments; Prefect {prefect.__version__} knows every key")


def _against_server(file: DeployFile) -> tuple[list[Check], list[Line]]:
    """Return how the server and the pools are, and what would become of what it holds."""
    from prefect.settings import get_current_settings, temporary_settings

    from cli.prefect_probe import begin_probe

    if not get_current_settings().api.url:
        told = "no PREFECT_API_URL: what is deployed was not looked at"
        return [Check("Prefect", "yellow", told, "set it to the server that is deployed to")], []
    server = begin_probe()()
    if any(check.level == "red" for check in server):
        return [check for check in server if check.level == "red"], []
    from cli.deploy_plan import PATIENCE, plan_automations, plan_deployments
    from cli.deploy_pool import check_pools

    deployments = file.values.get("deployments")
    if not isinstance(deployments, list):
        return [], []
    with temporary_settings(PATIENCE):
        pools = check_pools(file)
    planned = [*asyncio.run(plan_deployments(file.path, imports=True)), *plan_automations()]
    return pools, [
        Line(*_OUTCOMES[each.outcome], each.name, each.details or (_SAID[each.outcome],)) for each in planned
    ]


_SAID = {
    "new": "would be made",
    "same": "as it is there",
    "left": "there, and not in the file: deploying leaves it",
    "changed": "",
    "failed": "",
}
