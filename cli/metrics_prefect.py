"""Prefect's runs, workers and slots as Prometheus reads them: its own metrics tell of its events alone."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from prometheus_client.core import GaugeMetricFamily

_TIMEOUT_SECONDS = 10
_PAGE = 200  # the most that Prefect's server gives at once
OPEN = ("SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING")
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def read_prefect() -> Iterator[GaugeMetricFamily]:
    """Ask the server that PREFECT_API_URL names; httpx.HTTPError if it does not answer as it should."""
    user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    auth = (user, password) if user else None
    with httpx.Client(base_url=os.environ["PREFECT_API_URL"], auth=auth, timeout=_TIMEOUT_SECONDS) as client:
        flows = {flow["id"]: flow["name"] for flow in _ask(client, "flows/filter", {})}
        yield from _runs(client, flows)
        yield from _slots(client, flows)
        yield _workers(client)


def _ask(client: httpx.Client, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    answer = client.post(f"/{path}", json={**body, "limit": _PAGE})
    answer.raise_for_status()
    return answer.json()


def _of_flow(identity: str) -> dict[str, Any]:
    return {"flows": {"id": {"any_": [identity]}}}


def _in_states(*states: str, **more: Any) -> dict[str, Any]:
    return {"flow_runs": {"state": {"type": {"any_": list(states)}}, **more}}


def _runs(client: httpx.Client, flows: dict[str, str]) -> Iterator[GaugeMetricFamily]:
    now = datetime.now(UTC)
    by_state = GaugeMetricFamily("pii_flow_runs", "Runs that are due and have not ended", labels=["flow", "state"])
    ended = GaugeMetricFamily(
        "pii_flow_runs_ended_last_day", "Runs that ended in the last 24 hours", labels=["flow", "state"]
    )
    last = GaugeMetricFamily("pii_last_run_completed", "Whether the run that ended last completed", labels=["flow"])
    running = GaugeMetricFamily("pii_longest_running_seconds", "Since the oldest running run began", labels=["flow"])
    waiting = GaugeMetricFamily("pii_longest_waiting_seconds", "Since a run that waits was due", labels=["flow"])
    for identity, flow in flows.items():
        due = {"expected_start_time": {"before_": now.isoformat()}}
        for state in OPEN:
            body = _of_flow(identity) | _in_states(state, **due) | {"sort": "EXPECTED_START_TIME_ASC"}
            found = _ask(client, "flow_runs/filter", body)
            by_state.add_metric([flow, state.capitalize()], len(found))
            if state == "SCHEDULED":
                waiting.add_metric([flow], max((_age(run["expected_start_time"], now) for run in found), default=0))
            if state == "RUNNING":
                running.add_metric([flow], max((_age(run["start_time"], now) for run in found), default=0))
        lately = {"end_time": {"after_": (now - timedelta(days=1)).isoformat()}}
        for state in ENDED:
            answer = client.post("/flow_runs/count", json=_of_flow(identity) | _in_states(state, **lately))
            answer.raise_for_status()
            ended.add_metric([flow, state.capitalize()], answer.json())
        newest = client.post(
            "/flow_runs/filter",
            json=_of_flow(identity) | _in_states(*ENDED) | {"sort": "END_TIME_DESC", "limit": 1},
        )
        newest.raise_for_status()
        for run in newest.json():
            last.add_metric([flow], run["state_type"] == "COMPLETED")
    yield from (by_state, ended, last, running, waiting)


def _age(moment: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(moment)).total_seconds()


def _slots(client: httpx.Client, flows: dict[str, str]) -> Iterator[GaugeMetricFamily]:
    names = {
        f"deployment:{each['id']}": f"{flows.get(each['flow_id'], '?')}/{each['name']}"
        for each in _ask(client, "deployments/filter", {})
    }
    limit = GaugeMetricFamily("pii_slots", "Concurrency slots of a limit", labels=["limit"])
    taken = GaugeMetricFamily("pii_slots_taken", "Slots that are held", labels=["limit"])
    for each in _ask(client, "v2/concurrency_limits/filter", {}):
        name = str(names.get(each["name"], each["name"]))
        limit.add_metric([name], each["limit"])
        taken.add_metric([name], each["active_slots"])
    yield from (limit, taken)


def _workers(client: httpx.Client) -> GaugeMetricFamily:
    online = GaugeMetricFamily("pii_workers_online", "Workers whose heartbeat is heard", labels=["pool"])
    for pool in _ask(client, "work_pools/filter", {}):
        workers = _ask(client, f"work_pools/{pool['name']}/workers/filter", {})
        online.add_metric([pool["name"]], sum(worker["status"] == "ONLINE" for worker in workers))
    return online
