"""Runs whose process is gone end as what happened, in Prefect and in MLflow."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Crashed

from pii_finetune.dead_runs import close_dead_runs, is_dead_here
from tasks.flow_processes import find_flow_processes

_HELD = ("PENDING", "RUNNING", "CANCELLING")  # each of them has the slot
_GONE = "Its process is gone; nobody saw it end."
# Between a worker's claim of a run (PENDING) and the start of its process; it took 0.1 s on two idle cores.
_START = timedelta(seconds=15)


@dataclass(frozen=True)
class Reconciled:
    """Ids of what was closed."""

    flow_runs: tuple[str, ...]
    mlflow_runs: tuple[str, ...]


def reconcile(only_worker: bool) -> Reconciled:
    """Close what says it runs and has no process; Prefect frees the slot with the state.

    A flow process whose worker died is healthy: it goes on and reports its own end, so it is left alone. So is all that
    cannot be judged from here: runs of other hosts, and of other users whose processes do not tell what they run.

    Args:
        only_worker: no other host runs flows of this server, so that a run without a process here has none.
    """
    with get_client(sync_client=True) as client:
        closed = [str(run.id) for run in _gone(client, only_worker) if _close(client, run)]
        runs = close_dead_runs(lambda run_id: _may_run(client, run_id))
    return Reconciled(tuple(closed), tuple(runs))


def _gone(client: SyncPrefectClient, only_worker: bool) -> list[FlowRun]:
    """Return the runs without a process, having given those that were just claimed the time to get one."""
    held = _held(client)
    processes = find_flow_processes()  # after the runs were read: one that starts in between is no suspect
    everyone_is_seen = only_worker and processes.is_complete
    suspects = [run for run in held if str(run.id) not in processes.by_run]
    if everyone_is_seen and (wait := max(map(_seconds_to_start, suspects), default=0)) > 0:
        time.sleep(wait)
        started = find_flow_processes().by_run
        suspects = [run for run in suspects if str(run.id) not in started]
    return [run for run in suspects if everyone_is_seen or is_dead_here(str(run.id))]


def _held(client: SyncPrefectClient) -> list[FlowRun]:
    wanted = FlowRunFilter.model_validate(
        {"state": {"type": {"any_": list(_HELD)}}, "deployment_id": {"is_null_": False}}
    )
    return client.read_flow_runs(flow_run_filter=wanted)


def _seconds_to_start(run: FlowRun) -> float:
    if run.state is None or not run.state.is_pending():
        return 0
    return (run.state.timestamp + _START - datetime.now(UTC)).total_seconds()


def _close(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Propose the end; the server refuses if the run came to one of its own meanwhile."""
    cancelling = run.state is not None and run.state.is_cancelling()  # as somebody asked; no automation resumes it
    end = Cancelled(message=_GONE) if cancelling else Crashed(message=_GONE)
    return client.set_flow_run_state(run.id, end).status == SetStateStatus.ACCEPT


def _may_run(client: SyncPrefectClient, flow_run_id: str) -> bool:
    try:
        state = client.read_flow_run(UUID(flow_run_id)).state
    except (ObjectNotFound, ValueError):
        return True  # of another Prefect server, such as the one that `pii-finetune run` starts for itself
    return state is None or not state.is_final()
