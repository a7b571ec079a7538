"""What is asked of, and told to, a real Prefect server: the doctor's checks, the next attempt, dead runs."""

import os
import subprocess
import sys
from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from mlflow import MlflowClient
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.states import Cancelled, Cancelling, Crashed, Pending, Running
from prefect.testing.utilities import prefect_test_harness

from cli.doctor_prefect import examine_server
from flows.resume import resume
from tasks import reconcile as reconciling
from tasks.automations import ensure_automations, missing_automations
from tasks.reconcile import reconcile
from tasks.resume import delay_before

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def client():
    with prefect_test_harness(server_startup_timeout=120), get_client(sync_client=True) as client:
        yield client


@pytest.fixture(scope="module")
def bare():
    """What the doctor says of a server with nothing in it."""
    return {check.name: check for check in examine_server()}


@pytest.fixture(scope="module")
def deployment(client, bare):
    """The deployments, without a worker: what was started stays countable."""

    @flow
    def nothing(profile="", data=None, overrides=None, flow_run_id=None):
        pass

    client.create_work_pool(WorkPoolCreate(name="gpu", type="process"))
    made = {}
    for name in ("pii-finetune", "pii-score", "pii-watch", "pii-resume", "pii-sweep", "pii-trial"):
        made[name] = client.create_deployment(client.create_flow(nothing.with_options(name=name)), "main")
    return made["pii-finetune"]


@pytest.fixture
def tracking(tmp_path, monkeypatch):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return MlflowClient(uri)


def test_the_doctor_names_what_a_server_lacks_and_what_mends_it(bare, client, deployment):
    for name, found, remedy in (
        ("automations", "a silent run is crashed", "pii-finetune automate"),
        ("deployments", "work pool 'gpu' which does not exist", "mend that, then: prefect deploy --all"),
        ("work pool", "no work pool gpu", "prefect work-pool create gpu --type process"),
    ):
        assert bare[name].level == "red"
        assert found in bare[name].found
        assert bare[name].remedy == remedy
    assert bare["slots"].level == "yellow"
    assert "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE" in bare["slots"].remedy

    ensure_automations()
    now = {check.name: check for check in examine_server()}
    assert now["automations"].level == "green"
    assert (now["deployments"].level, "not as here" in now["deployments"].found) == ("yellow", True)  # stand-ins
    assert now["worker"].level == "yellow"
    assert "cli.worker" in now["worker"].remedy

    client.send_worker_heartbeat("gpu", "there", heartbeat_interval_seconds=30)
    [worker] = [check for check in examine_server() if check.name == "worker"]
    assert (worker.level, worker.found[:25]) == ("green", "online: there (heartbeat ")


def triggers(client):
    return {each["trigger"]["id"] for each in client.request("POST", "/automations/filter", json={}).json()}


def test_making_the_automations_again_keeps_what_they_know_and_one_that_was_switched_off_is_missed(
    client, deployment, monkeypatch
):
    ensure_automations()
    before = triggers(client)
    ensure_automations()
    assert triggers(client) == before  # with another one, the silence of a run would begin anew, or never
    monkeypatch.setenv("PII_FINETUNE_SILENT_SECONDS", "240")
    ensure_automations()
    assert len(triggers(client)) == 3
    assert len(triggers(client) - before) == 2
    assert missing_automations() == []
    client.pause_automation(client.read_automations()[0].id)
    assert len(missing_automations()) == 1


def test_each_attempt_waits_twice_as_long_as_the_one_before(monkeypatch):
    assert [delay_before(number).total_seconds() for number in (1, 2, 3)] == [60, 120, 240]
    monkeypatch.setenv("PII_FINETUNE_RESUME_DELAY_SECONDS", "5")
    assert delay_before(3) == timedelta(seconds=20)


def crashed(client, deployment, *tags, state=None):
    run = client.create_flow_run_from_deployment(deployment, parameters={"profile": "fast"}, tags=list(tags))
    client.set_flow_run_state(run.id, Running())
    client.set_flow_run_state(run.id, state or Crashed())
    return run


def test_a_crash_told_twice_makes_one_attempt_with_the_same_parameters_and_the_third_is_the_last(client, deployment):
    run = crashed(client, deployment, "mine", "resume-attempt:2")
    started = resume(run.id)
    assert resume(run.id) == started
    attempt = client.read_flow_run(started)
    assert attempt.parameters == run.parameters
    assert {"mine", "resume-attempt:3"} <= set(attempt.tags)
    assert attempt.state.is_scheduled()
    assert resume(crashed(client, deployment, "resume-attempt:3").id) is None


def test_a_crash_of_the_run_that_schedules_attempts_is_as_good_as_the_crash_it_was_told_of(client, deployment):
    run = crashed(client, deployment)
    resumer = client.read_deployment_by_name("pii-resume/main").id
    told = client.create_flow_run_from_deployment(resumer, parameters={"flow_run_id": str(run.id)})
    started = resume(told.id)
    assert client.read_flow_run(started).idempotency_key == f"resume:{run.id}"
    for _ in range(4):
        told = client.create_flow_run_from_deployment(resumer, parameters={"flow_run_id": str(told.id)})
        client.set_flow_run_state(told.id, Crashed())
    assert resume(told.id) is None  # in a row so long there is no use in one more


def test_a_run_that_is_not_crashed_is_not_resumed(client, deployment):
    assert resume(crashed(client, deployment, state=Cancelled()).id) is None


def held(client, deployment, *states):
    run = client.create_flow_run_from_deployment(deployment)
    for state in states:
        client.set_flow_run_state(run.id, state)
    return str(run.id)


def state_of(client, run_id):
    return client.read_flow_run(run_id).state.name


def test_the_only_worker_closes_all_without_a_process_as_what_happened(client, deployment, tracking, monkeypatch):
    monkeypatch.setattr(reconciling, "_START", timedelta(seconds=2))
    running = held(client, deployment, Pending(), Running())
    never_started = held(client, deployment, Pending())
    asked_to_stop = held(client, deployment, Pending(), Running(), Cancelling())
    waiting = held(client, deployment)
    alive = held(client, deployment, Pending(), Running())
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(120)", "prefect.engine"],
        env=os.environ | {"PREFECT__FLOW_RUN_ID": alive},
    )
    try:
        assert reconcile(only_worker=False).flow_runs == ()  # these may be another host's
        assert set(reconcile(only_worker=True).flow_runs) == {running, never_started, asked_to_stop}
    finally:
        process.kill()
        process.wait(60)
    assert state_of(client, running) == state_of(client, never_started) == "Crashed"
    assert state_of(client, asked_to_stop) == "Cancelled"
    assert state_of(client, waiting) == "Scheduled"
    assert state_of(client, alive) == "Running"
    assert reconcile(only_worker=True).flow_runs == (alive,)


def test_where_a_flow_of_another_user_tells_nothing_no_run_is_called_dead_for_lack_of_a_process(
    client, deployment, tracking, monkeypatch
):
    run = held(client, deployment, Pending(), Running())
    seen = SimpleNamespace(by_run={}, is_complete=False)
    with monkeypatch.context() as patch:
        patch.setattr(reconciling, "find_flow_processes", lambda: seen)
        assert reconcile(only_worker=True).flow_runs == ()
    assert reconcile(only_worker=True).flow_runs == (run,)


def test_in_mlflow_runs_of_dead_processes_end_and_those_of_the_living_and_of_strangers_do_not(
    client, deployment, tracking
):
    from pii_finetune.own_process import own_process

    experiment = tracking.create_experiment("any")
    gone = own_process() | {"pid": "4194304"}  # no process has this number
    elsewhere = {"host": "elsewhere", "pid": "1", "process_started": "1.0"}
    ended = held(client, deployment, Pending(), Running(), Crashed())
    dead = [
        tracking.create_run(experiment, tags=gone),
        tracking.create_run(experiment, tags=elsewhere | {"prefect_flow_run_id": ended}),
    ]
    child = tracking.create_run(experiment, tags=gone | {"mlflow.parentRunId": dead[0].info.run_id})
    living = [
        tracking.create_run(experiment, tags=own_process()),
        tracking.create_run(experiment, tags=elsewhere),
        # `pii-finetune run` on another host, with a Prefect server of its own that nobody here can ask
        tracking.create_run(experiment, tags=elsewhere | {"prefect_flow_run_id": str(uuid4())}),
        tracking.create_run(experiment, tags={}),
    ]
    assert set(reconcile(only_worker=True).mlflow_runs) == {run.info.run_id for run in dead}
    for run in (*dead, child):
        assert tracking.get_run(run.info.run_id).info.status == "KILLED"
    for run in living:
        assert tracking.get_run(run.info.run_id).info.status == "RUNNING"
