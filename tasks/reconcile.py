"""Runs whose process is gone end as what happened, in Prefect and in MLflow."""

from dataclasses import dataclass
from uuid import UUID

import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed

from pii_finetune.dead_runs import close_dead_runs, is_dead_here

_HELD = ("RUNNING", "CANCELLING")  # PENDING runs are not seen: a worker that is about to start one has no process yet


@dataclass(frozen=True)
class Reconciled:
    """Ids of what was closed."""

    flow_runs: tuple[str, ...]
    mlflow_runs: tuple[str, ...]


def reconcile(only_worker: bool) -> Reconciled:
    """Close what says it runs and has no process; Prefect frees the slot with the state.

    A flow process whose worker died is healthy: it goes on and reports its own end, so it is left alone.

    Args:
        only_worker: no other host runs flows of this server, so that a run without a process here has none.
    """
    with get_client(sync_client=True) as client:
        crashed = []
        alive = _flow_runs_here()
        for run in _held(client):
            gone = str(run.id) not in alive and (only_worker or is_dead_here(str(run.id)))
            if gone:
                client.set_flow_run_state(
                    run.id, Crashed(message="Its process is gone; nobody saw it end."), force=True
                )
                crashed.append(str(run.id))
        closed = close_dead_runs(lambda run_id: _is_running(client, run_id))
    return Reconciled(tuple(crashed), tuple(closed))


def _held(client: SyncPrefectClient) -> list[FlowRun]:
    wanted = FlowRunFilter.model_validate(
        {"state": {"type": {"any_": list(_HELD)}}, "deployment_id": {"is_null_": False}}
    )
    return client.read_flow_runs(flow_run_filter=wanted)


def _flow_runs_here() -> set[str]:
    """Return the flow runs that processes of this host say they run."""
    found = set()
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                environment = process.environ()
                found.add(environment.get("PREFECT__FLOW_RUN_ID") or environment.get("PREFECT_FLOW_RUN_ID"))
        except (psutil.Error, OSError):
            continue  # of another user, or just gone
    return {str(UUID(each)) for each in found if each}


def _is_running(client: SyncPrefectClient, flow_run_id: str) -> bool:
    try:
        state = client.read_flow_run(UUID(flow_run_id)).state
    except (ObjectNotFound, ValueError):
        return False
    return state is not None and not state.is_final()
