"""Trials of a sweep as runs of the deployment `pii-trial/main`."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from mlflow import MlflowClient
from prefect import task
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Cancelling

from pii_finetune.errors import BadConfigError, PiiFinetuneError
from pii_finetune.patience import patiently
from pii_finetune.sweep.drive import OpenSweep, Start
from pii_finetune.sweep.study import Outcome
from pii_finetune.sweep.trial_runs import VALIDATION_F1, checks_of, find_trial
from tasks.sweep import SweepPlan

TRIAL, TRAINING = "pii-trial/main", "pii-finetune/main"
_MOST_CRASHES = 3


class BestRunError(PiiFinetuneError, RuntimeError):
    """The run that was to judge the best trial did not come to its end."""


@task(name="check the work pool")
def check_pool(at_once: int) -> None:
    """Check that trials can run beside this flow.

    Raises:
        BadConfigError: the deployments are missing, or the pool's limit leaves no room.
    """
    if at_once < 1:
        raise BadConfigError(f"at_once = {at_once}: must be at least 1")
    with get_client(sync_client=True) as client:
        try:
            deployment = client.read_deployment_by_name(TRIAL)
            client.read_deployment_by_name(TRAINING)
        except ObjectNotFound:
            raise BadConfigError(
                f"where = 'work-pool': the deployments {TRIAL} and {TRAINING} are not both there; make them with "
                "`prefect deploy --all`"
            ) from None
        if deployment.work_pool_name is None:
            return
        limit = client.read_work_pool(deployment.work_pool_name).concurrency_limit
        own_id = flow_run.get_id()
        own_pool = client.read_flow_run(UUID(own_id)).work_pool_name if own_id else None
    taken = int(own_pool == deployment.work_pool_name)
    if limit is not None and limit - taken < 1:
        raise BadConfigError(
            f"work pool {deployment.work_pool_name!r} runs {limit} at once, and this sweep is one: no trial would ever "
            f"begin. Raise its limit to {at_once + taken}, or start the sweep with where='here'"
        )
    if limit is not None and limit - taken < at_once:
        get_run_logger().warning(
            "work pool %s has room for %d trials at once, not %d", deployment.work_pool_name, limit - taken, at_once
        )


class _OnPool:
    """A trial that is a flow run of its own."""

    def __init__(self, plan: SweepPlan, sweep: OpenSweep, number: int, settings: Mapping[str, Any]) -> None:
        self._parameters = {
            "sweep_run": sweep.run_id,
            "number": number,
            "profile": plan.profile,
            "data": plan.data,
            "overrides": {**sweep.overrides, **settings},
        }
        self._sweep, self._number = sweep, number
        self._is_stopped, self._num_crashes = False, 0
        self._flow_run = _of_before(self._tag, self._parameters) or self._start()

    def checks(self) -> Mapping[int, float]:
        found = find_trial(self._sweep.run_id, self._number)
        return checks_of(found) if found else {}

    def outcome(self) -> Outcome | None:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(self._flow_run.id).state
        if state is None or not state.is_final():
            return None
        if state.is_crashed() and not self._is_stopped and self._num_crashes < _MOST_CRASHES:
            self._num_crashes += 1
            get_run_logger().warning("trial %d crashed (%s): once more", self._number, state.message)
            self._flow_run = self._start()
            return None
        if not state.is_completed():
            kind = "stopped early" if self._is_stopped else "failed"
            return Outcome(kind, reason=state.message or str(state.name))
        found = find_trial(self._sweep.run_id, self._number)
        if found is None or VALIDATION_F1 not in found.data.metrics:
            return Outcome("failed", reason=f"flow run {self._flow_run.name} left no F1 in MLflow")
        return Outcome("done", found.data.metrics[VALIDATION_F1])

    def stop(self) -> None:
        if not self._is_stopped:
            self._is_stopped = True
            get_run_logger().info("trial %d is stopped", self._number)
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(self._flow_run.id, Cancelling())

    @property
    def _tag(self) -> str:
        return f"trial:{self._sweep.run_id}:{self._number}"

    def _start(self) -> FlowRun:
        started: Any = run_deployment(  # typed as either kind of function; here it is the plain one
            TRIAL, parameters=self._parameters, timeout=0, tags=["pii-sweep", self._tag]
        )
        return started


def trials_on_pool(plan: SweepPlan) -> Start:
    """Return what starts a trial as a run of its deployment, or finds the one that a sweep before this one started."""

    def start(sweep: OpenSweep, number: int, settings: Mapping[str, Any]) -> _OnPool:
        return _OnPool(plan, sweep, number, settings)

    return start


@task(name="judge the best trial")
def judge_on_pool(plan: SweepPlan, sweep: OpenSweep, settings: Mapping[str, Any]) -> str:
    """Start the ordinary run with the best trial's settings, wait for its end, and return its run in MLflow.

    Raises:
        BestRunError: it did not come to its end.
    """
    ended: Any = run_deployment(
        TRAINING,
        parameters={"profile": plan.profile, "data": plan.data, "overrides": {**sweep.overrides, **settings}},
        idempotency_key=f"best of {sweep.run_id} in {flow_run.get_id()}",
        tags=["pii-sweep"],
    )
    if ended.state is None or not ended.state.is_completed():
        told = "is not known" if ended.state is None else f"{ended.state.name} ({ended.state.message})"
        raise BestRunError(f"the run that judges the best trial, {ended.name}, ended as {told}")
    client = MlflowClient()
    experiment = patiently(client.get_run, sweep.run_id).info.experiment_id
    return patiently(client.search_runs, [experiment], f"tags.prefect_flow_run_id = '{ended.id}'")[0].info.run_id


def _of_before(tag: str, parameters: Mapping[str, Any]) -> FlowRun | None:
    """Return the run of this tag and these settings that goes on, or came to its end.

    After a lost journal a number may stand for other settings.
    """
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate({"tags": {"all_": [tag]}}),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        )
    useless = (StateType.CANCELLING, StateType.CANCELLED, StateType.FAILED, StateType.CRASHED)
    same = [run for run in found if run.parameters.get("overrides") == parameters["overrides"]]
    return next((run for run in same if run.state_type not in useless), None)
