"""What the Prefect server must hold for runs to be started, and to be resumed when they die."""

from collections.abc import Callable

from pii_finetune.doctor import Check

_DEPLOYMENTS = ("pii-finetune/main", "pii-score/main", "pii-watch/main", "pii-resume/main")


def examine_server() -> list[Check]:
    """Look at automations, deployments, pool, worker, how slots are kept; a check that fails unexpectedly is red."""
    checks = (_automations, _deployments, _worker, _leases)
    return [_guarded(check) for check in checks]


def _guarded(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # noqa: BLE001  doctor never fails itself
        return Check(check.__name__.strip("_"), "red", f"{type(error).__name__}", "look at the Prefect server's log")


def _automations() -> Check:
    from tasks.automations import NAMES, missing_automations

    if missing := missing_automations():
        return Check("automations", "red", f"not there: {'; '.join(missing)}", "pii-finetune automate")
    return Check("automations", "green", f"{len(NAMES)} there")


def _deployments() -> Check:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    missing = []
    with get_client(sync_client=True) as client:
        for name in _DEPLOYMENTS:
            try:
                client.read_deployment_by_name(name)
            except ObjectNotFound:
                missing.append(name)
    if missing:
        return Check("deployments", "red", f"not there: {', '.join(missing)}", "prefect deploy --all")
    return Check("deployments", "green", f"{len(_DEPLOYMENTS)} there")


def _worker() -> Check:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool("gpu")
        except ObjectNotFound:
            return Check("worker", "red", "there is no work pool gpu", "prefect work-pool create gpu --type process")
        workers = client.read_workers_for_work_pool("gpu")
    online = [worker.name for worker in workers if worker.status == "ONLINE"]
    if not online:
        return Check("worker", "yellow", "none of pool gpu is online: runs wait", "python -m cli.worker --pool gpu")
    return Check("worker", "green", f"online: {', '.join(online)}")


def _leases() -> Check:
    """Look at where slots are held: in the server's memory they die with it, and so does the run that holds one."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        settings = client.request("GET", "/admin/settings").json()
    storage = str(settings["server"]["concurrency"]["lease_storage"])
    if storage.endswith(".memory"):
        return Check(
            "slots",
            "yellow",
            "held in the server's memory: a run ends as Crashed some minutes after the server was started again",
            f"start it with PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE={storage.removesuffix('memory')}filesystem",
        )
    return Check("slots", "green", f"held in {storage.rpartition('.')[2]}")
