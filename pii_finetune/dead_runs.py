"""MLflow runs that say RUNNING though nobody runs them any more."""

from collections.abc import Callable

from mlflow import MlflowClient
from mlflow.entities import Run

from pii_finetune.own_process import may_live, names_process_here
from pii_finetune.tracking import configure_tracking

_RUNNING = "attributes.status = 'RUNNING'"


def close_dead_runs(is_running: Callable[[str], bool]) -> list[str]:
    """End every RUNNING run of a dead process, and its children, as KILLED; return the parents' ids.

    A run of this host is judged by its process, one of another host by its Prefect flow run alone. A run that says
    neither where nor for which flow run it was started is left as it is.

    Args:
        is_running: whether the Prefect flow run of this id is still said to run.
    """
    configure_tracking()
    client = MlflowClient()
    experiments = [each.experiment_id for each in client.search_experiments()]
    running: list[Run] = []
    page = client.search_runs(experiments, _RUNNING)
    running += page
    while page.token:
        page = client.search_runs(experiments, _RUNNING, page_token=page.token)
        running += page
    parents = [run for run in running if "mlflow.parentRunId" not in run.data.tags]
    dead = {run.info.run_id for run in parents if _is_dead(run, is_running)}
    for run in running:
        parent = run.data.tags.get("mlflow.parentRunId")
        if parent is not None and (parent in dead or _has_ended(client, parent)):
            client.set_terminated(run.info.run_id, "KILLED")
    for run_id in dead:  # last: a reconciler that dies between finds the parent again
        client.set_terminated(run_id, "KILLED")
    return sorted(dead)


def is_dead_here(flow_run_id: str) -> bool:
    """Return whether a process of this host ran that flow run, and is gone."""
    configure_tracking()
    client = MlflowClient()
    experiments = [each.experiment_id for each in client.search_experiments()]
    of_it = client.search_runs(experiments, f"tags.prefect_flow_run_id = '{flow_run_id}'")
    here = [run for run in of_it if names_process_here(run.data.tags)]
    return bool(here) and all(_is_dead(run, lambda _: False) for run in here)


def _is_dead(run: Run, is_running: Callable[[str], bool]) -> bool:
    tags = run.data.tags
    if names_process_here(tags):
        return not may_live(tags)
    flow_run_id = tags.get("prefect_flow_run_id")
    return flow_run_id is not None and not is_running(flow_run_id)


def _has_ended(client: MlflowClient, run_id: str) -> bool:
    return client.get_run(run_id).info.status not in ("RUNNING", "SCHEDULED")
