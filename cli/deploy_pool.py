"""The work pools that prefect.yaml names: there, awake, and acquainted with the job variables."""

from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import WorkPool
from prefect.exceptions import ObjectNotFound
from prefect.utilities.templating import find_placeholders

from cli.deploy_file import DeployFile, Key
from cli.deploy_keys import nearest
from pii_finetune.checks import Check


def check_pools(file: DeployFile) -> list[Check]:
    """Return a check for each pool, and a fault for each job variable that it would ignore."""
    named: dict[str, list[Key]] = {}
    for number, deployment in enumerate(file.values["deployments"]):
        pool = deployment.get("work_pool") if isinstance(deployment, dict) else None
        if isinstance(pool, dict) and isinstance(name := pool.get("name"), str) and not find_placeholders(name):
            named.setdefault(name, []).append(("deployments", number, "work_pool"))
    checks = []
    with get_client(sync_client=True) as client:
        for name, places in named.items():
            try:
                pool = client.read_work_pool(name)
            except ObjectNotFound:
                told = f"there is no work pool {name} on the server"
                remedy = f"prefect work-pool create {name} --type process"
                checks.append(file.fault((*places[0], "name"), told, remedy))
                continue
            paused = ", paused: its runs wait" if pool.is_paused else ""
            remedy = f"prefect work-pool resume {name}"
            checks.append(Check(f"work pool {name}", "yellow" if paused else "green", f"{pool.type}{paused}", remedy))
            for place in places:
                checks += _ignored(file, place, pool)
    return checks


def _ignored(file: DeployFile, place: Key, pool: WorkPool) -> list[Check]:
    known = sorted(pool.base_job_template.get("variables", {}).get("properties", {}))
    given: Any = file.values["deployments"][place[1]]["work_pool"].get("job_variables")
    return [
        file.fault(
            (*place, "job_variables", name),
            f"pool {pool.name} has no such job variable and ignores it{nearest(str(name), known)}",
            "correct it, or add it to the pool's base job template",
        )
        for name in (given if isinstance(given, dict) else {})
        if name not in known
    ]
