"""What the Prefect server must hold for runs to be started, and to be resumed when they die."""

import asyncio
import contextlib
import datetime as dt

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import ObjectNotFound
from prefect.settings import temporary_settings

from cli.deploy_file import read_deploy_file
from cli.deploy_plan import PATIENCE, Planned, plan_automations, plan_deployments
from pii_finetune.checks import Check, begin, guarded
from pii_finetune.paths import ROOT

_POOL = "gpu"
_DIFFERENCES = "make deploy-check"


def examine_server() -> list[Check]:
    """Look at pool, workers, deployments, automations and limits, together for no longer than any server gets."""
    return begin("Prefect", _examine)()


def _examine() -> list[Check]:
    with temporary_settings(PATIENCE), get_client(sync_client=True) as client:
        looks = {
            "work pool": lambda: _pool(client),
            "worker": lambda: _workers(client),
            "deployments": _deployments,
            "automations": _automations,
            "limit": lambda: _limits(client),
            "slots": lambda: _leases(client),
        }
        return [check for name, look in looks.items() for check in guarded(name, look)]


def _pool(client: SyncPrefectClient) -> Check:
    try:
        pool = client.read_work_pool(_POOL)
    except ObjectNotFound:
        remedy = f"prefect work-pool create {_POOL} --type process"
        return Check("work pool", "red", f"there is no work pool {_POOL}", remedy)
    limit = "no limit" if pool.concurrency_limit is None else f"{pool.concurrency_limit} at a time"
    told = f"{_POOL}, {pool.type}, {limit}"
    if pool.is_paused:
        return Check("work pool", "yellow", f"{told}, paused: runs wait", f"prefect work-pool resume {_POOL}")
    return Check("work pool", "green", told)


def _workers(client: SyncPrefectClient) -> Check:
    remedy = f"python -m cli.worker --pool {_POOL}"
    try:
        workers = client.read_workers_for_work_pool(_POOL)
    except ObjectNotFound:
        workers = []
    now = dt.datetime.now(dt.UTC)
    told = []
    for worker in sorted(workers, key=lambda each: each.last_heartbeat_time or each.created or now, reverse=True):
        last = worker.last_heartbeat_time
        age = f"{(now - last).total_seconds():.0f} s ago" if last else "never"
        told.append((worker.status == WorkerStatus.ONLINE, f"{worker.name} (heartbeat {age})"))
    online = [text for is_online, text in told if is_online]
    if online:
        return Check("worker", "green", f"online: {', '.join(online)}")
    gone = f"; last seen: {told[0][1]}" if told else ""
    return Check("worker", "yellow", f"none of pool {_POOL} is online: runs wait{gone}", remedy)


def _deployments() -> Check:
    """Compare them with the file, but for what only importing the flows would tell: that takes ten seconds."""
    file = ROOT / "prefect.yaml"
    with contextlib.chdir(ROOT):
        planned = asyncio.run(plan_deployments(read_deploy_file(file).path, imports=False))
    return _as_planned("deployments", [each for each in planned if each.outcome != "left"], "prefect deploy --all")


def _automations() -> Check:
    from tasks.automations import missing_automations

    if missing := missing_automations():
        return Check("automations", "red", f"not there, or off: {'; '.join(missing)}", "pii-finetune automate")
    return _as_planned("automations", plan_automations(), "pii-finetune automate")


def _as_planned(name: str, planned: list[Planned], remedy: str) -> Check:
    missing = [each.name for each in planned if each.outcome == "new"]
    if missing:
        return Check(name, "red", f"not there: {', '.join(missing)}", remedy)
    if failed := [each for each in planned if each.outcome == "failed"]:
        return Check(name, "red", f"{failed[0].name}: {failed[0].details[0]}", f"mend that, then: {remedy}")
    changed = [
        f"{each.name} ({', '.join(detail.partition(':')[0] for detail in each.details)})"
        for each in planned
        if each.outcome == "changed"
    ]
    if changed:
        return Check(
            name, "yellow", f"not as here: {'; '.join(changed)}", f"{remedy}; {_DIFFERENCES} shows what differs"
        )
    return Check(name, "green", f"{len(planned)} there, as here")


def _limits(client: SyncPrefectClient) -> Check:
    """Look at the slot of the training: a lease that nobody renews holds it until it expires."""
    try:
        main = client.read_deployment_by_name("pii-finetune/main")
    except ObjectNotFound:
        return Check("limit", "yellow", "pii-finetune/main is not there", "prefect deploy --all")
    limit = main.global_concurrency_limit
    if limit is None:
        remedy = "prefect deploy --all sets concurrency_limit"
        return Check("limit", "yellow", "pii-finetune/main has none: trainings may run side by side", remedy)
    return Check("limit", "green", f"pii-finetune/main: {limit.active_slots} of {limit.limit} slots taken")


def _leases(client: SyncPrefectClient) -> Check:
    """Look at where slots are held: in the server's memory they die with it, and so does the run that holds one."""
    settings = client.request("GET", "/admin/settings").json()
    storage = str(settings["server"]["concurrency"]["lease_storage"])
    if storage.endswith(".memory"):
        return Check(
            "slots",
            "yellow",
            "held in the server's memory: a run ends as Crashed some minutes after the server was started again",
            f"start it with PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE = {storage.removesuffix('memory')}filesystem",
        )
    return Check("slots", "green", f"held in {storage.rpartition('.')[2]}")
