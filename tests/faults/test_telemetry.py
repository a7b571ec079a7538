"""Fault 6: MLflow out of reach. A real server, behind a proxy that breaks what passes."""

import json
import sqlite3
import threading
import time
from itertools import pairwise

import httpx
import mlflow
import pytest
from mlflow import MlflowClient
from servers import mlflow_server, prefect_server
from tcp_proxy import TcpProxy

from pii_finetune.config import TrackingConfig
from pii_finetune.errors import TrackingUnreachableError
from pii_finetune.patience import patience, patiently
from pii_finetune.profiles import embedded
from pii_finetune.telemetry import MetricSender, sending_metrics
from pii_finetune.tracking import close_run, open_run, stage_run

pytestmark = pytest.mark.slow

QUICK = TrackingConfig(request_timeout_seconds=1, patience_seconds=120, log_system_metrics=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Yield the address of a server that nothing breaks."""
    with mlflow_server(tmp_path_factory.mktemp("server")) as port:
        MlflowClient(f"http://127.0.0.1:{port}").create_experiment("pii-finetune")
        yield port


@pytest.fixture
def proxy(server):
    made = TcpProxy(server)
    yield made
    made.close()


@pytest.fixture
def client(server):
    return MlflowClient(f"http://127.0.0.1:{server}")


@pytest.fixture
def run_id(client, proxy, monkeypatch):
    """A run, and this process set to reach it through the proxy."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.url)
    mlflow.set_tracking_uri(proxy.url)
    yield client.create_run(client.get_experiment_by_name("pii-finetune").experiment_id).info.run_id
    mlflow.set_tracking_uri(None)


def wait_until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def steps(client, run_id, metric="loss"):
    return [point.step for point in client.get_metric_history(run_id, metric)]


# -- the sender itself ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["refuse", "cut", "stall", "lose_answers"])
def test_whatever_the_server_does_steps_go_on_and_every_point_arrives_once_and_in_order(
    how, client, proxy, run_id, tmp_path
):
    with patience(QUICK), sending_metrics(run_id, tmp_path, QUICK) as sender:
        for step in range(5):
            sender.log({"loss": step / 10, "grad_norm": 1.0}, step)
        wait_until(lambda: steps(client, run_id) == list(range(5)))
        getattr(proxy, how)()
        for step in range(5, 1205):  # more than one request can take
            sender.log({"loss": step / 10, "grad_norm": 1.0}, step)
        # All of them were taken while none was confirmed, so none waited for the server.
        assert sender._pending
        wait_until(lambda: sender._trouble is not None)
        proxy.restore()
    assert steps(client, run_id) == list(range(1205))
    assert steps(client, run_id, "grad_norm") == list(range(1205))
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_had_not_delivered_is_delivered_by_the_next_and_what_comes_again_is_left_out(
    client, proxy, run_id, tmp_path
):
    path = tmp_path / f"metrics-{run_id}.jsonl"
    with patience(QUICK):
        dead = MetricSender(run_id, path)
        dead.log({"loss": 0.5}, 1)
        wait_until(lambda: not path.exists())
        proxy.lose_answers()
        dead.log({"loss": 0.4}, 2)
        dead.log({"loss": 0.3}, 3)
        wait_until(lambda: steps(client, run_id) == [1, 2] or steps(client, run_id) == [1, 2, 3])
        with pytest.raises(TrackingUnreachableError, match=str(path)):
            dead.close(0)
        with path.open("a") as file:  # the process was killed while it wrote
            file.write('{"step": 4, "timest')
        proxy.restore()
        with sending_metrics(run_id, tmp_path, QUICK) as sender:
            for step in (2, 3, 4):  # from the last checkpoint
                sender.log({"loss": 0.5 - step / 10}, step)
    assert steps(client, run_id) == [1, 2, 3, 4]
    assert not path.exists()


def test_a_full_disk_under_the_spool_costs_no_metric_and_no_training(client, run_id, tmp_path, caplog):
    with patience(QUICK), sending_metrics(run_id, tmp_path, QUICK) as sender:
        (tmp_path / f"metrics-{run_id}.jsonl").symlink_to("/dev/full")
        for step in range(3):
            sender.log({"loss": 0.1}, step)
    assert steps(client, run_id) == [0, 1, 2]
    assert sum("cannot be written (No space left on device)" in each.message for each in caplog.records) == 1


def test_metrics_that_the_server_refuses_fail_the_stage_with_the_reason(client, run_id, tmp_path):
    client.delete_run(run_id)
    with (
        pytest.raises(TrackingUnreachableError, match="refuses them since .*(deleted|active)"),
        patience(QUICK),
        sending_metrics(run_id, tmp_path, QUICK) as sender,
    ):
        sender.log({"loss": 0.1}, 1)


# -- calls around a training -------------------------------------------------------------------------------------------


def test_a_run_whose_making_was_answered_into_the_void_is_there_once(client, proxy, run_id):
    proxy.lose_first_answers()
    with patience(QUICK):
        run = open_run(embedded(), {"made_by": "this test"}, key="a key")
        with stage_run(run, "sft", embedded().model_copy(update={"tracking": QUICK}), "a stage"):
            pass
        close_run(run, "FINISHED")
    assert {"POST /api/2.0/mlflow/runs/create", "POST /api/2.0/mlflow/runs/update"} <= set(proxy.lost)
    [parent] = client.search_runs([run.experiment_id], "tags.made_by = 'this test'")
    [child] = client.search_runs([run.experiment_id], f"tags.mlflow.parentRunId = '{run.run_id}'")
    assert (parent.info.status, child.info.status) == ("FINISHED", "FINISHED")
    assert parent.data.tags["run_key"] == "a key"


def test_a_server_that_comes_back_is_waited_for_and_one_that_does_not_is_named(proxy, run_id, caplog):
    caplog.set_level("INFO", "pii_finetune")
    with patience(QUICK):
        proxy.refuse()
        threading.Timer(3, proxy.restore).start()
        run = open_run(embedded(), {})
    assert [each.levelname for each in caplog.records if "cannot be reached" in each.message] == ["WARNING"]
    assert "is back after" in caplog.text
    proxy.refuse()
    with (
        patience(QUICK.model_copy(update={"patience_seconds": 2})),
        pytest.raises(TrackingUnreachableError, match=r"cannot be reached since .* \(Connection refused\)"),
    ):
        open_run(embedded(), {})
    proxy.restore()
    close_run(run, "KILLED")


def test_an_error_in_a_stage_is_what_surfaces_when_mlflow_is_away_too(client, proxy, run_id, caplog):
    config = embedded().model_copy(update={"tracking": QUICK})
    with patience(QUICK):
        run = open_run(config, {})
        with pytest.raises(ZeroDivisionError), stage_run(run, "sft", config, "another stage"):  # noqa: PT012
            proxy.refuse()
            raise ZeroDivisionError
    assert sum("could not be closed as FAILED" in each.message for each in caplog.records) == 1
    proxy.restore()
    assert mlflow.active_run() is None
    close_run(run, "FAILED")
    assert client.get_run(run.run_id).info.status == "FAILED"


@pytest.mark.faults
def test_a_database_that_somebody_locks_is_waited_for(tmp_path, caplog):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri)
    run_id = client.create_run(client.create_experiment("one")).info.run_id
    other = sqlite3.connect(tmp_path / "mlflow.db", check_same_thread=False, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    waits = []

    def set_tag():
        waits.append(1)
        if len(waits) == 2:  # once was not enough
            threading.Timer(1, other.execute, ["ROLLBACK"]).start()
        client.set_tag(run_id, "told", "yes")

    with patience(QUICK):
        patiently(set_tag)
    assert len(waits) > 1
    assert client.get_run(run_id).data.tags["told"] == "yes"
    assert "cannot be reached" in caplog.text
    other.close()


# -- whole runs --------------------------------------------------------------------------------------------------------

SETTINGS = ["--set", "tracking.request_timeout_seconds=3", "--set", "tracking.patience_seconds=35"]
LONG = ["--set", "sft.max_steps=400", "--set", "sft.save_steps=20"]
SFT_STEPS, DPO_STEPS = [1, *range(5, 401, 5)], [1, *range(5, 61, 5)]


@pytest.fixture
def behind(runs, tmp_path):
    """`runs`, whose MLflow is a server of their own behind a proxy."""
    with mlflow_server(tmp_path) as port:
        proxy = TcpProxy(port)
        runs.environment["MLFLOW_TRACKING_URI"] = proxy.url
        runs.client = MlflowClient(f"http://127.0.0.1:{port}")
        yield runs, proxy, tmp_path / "outputs"
        proxy.close()


def spooled(outputs, stage):
    """Return the steps in the spool of a stage."""
    found = []
    for path in outputs.glob(f"{stage}-*/metrics-*.jsonl"):
        for line in path.read_text().splitlines():
            try:
                found.append(json.loads(line)["step"])
            except ValueError:
                continue  # being written
    return found


def steps_go_on(runs, outputs, stage, seconds):
    """Wait until the spool has grown for that long, and by ten steps or more."""
    began, first = time.monotonic(), None
    while True:
        assert runs.started[-1].poll() is None, runs.said()[-4000:]
        assert time.monotonic() < began + 200, runs.said()[-4000:]
        found = spooled(outputs, stage)
        first = first if first is not None else max(found, default=None)
        if first is not None and max(found, default=0) >= first + 10 and time.monotonic() > began + seconds:
            return
        time.sleep(0.1)


def wait_for_words(runs, words, seconds=300):
    deadline = time.monotonic() + seconds
    while words not in " ".join(runs.said().split()):
        assert runs.started[-1].poll() is None, runs.said()[-4000:]
        assert time.monotonic() < deadline, runs.said()[-4000:]
        time.sleep(0.2)


@pytest.mark.faults
def test_mlflow_down_then_hanging_in_sft_and_the_first_answer_of_each_kind_lost_and_the_run_is_as_any_other(behind):
    runs, proxy, outputs = behind
    proxy.lose_first_answers()
    process = runs.start(*SETTINGS, *LONG)
    sft = runs.wait_for_step("sft", 20)
    windows = []
    for fault in (proxy.refuse, proxy.stall):
        began = time.time()
        fault()
        steps_go_on(runs, outputs, "sft", seconds=5)
        windows.append((began, time.time()))
        proxy.restore()
        wait_until(lambda: not spooled(outputs, "sft"))
    assert process.wait(400) == 0, runs.said()[-4000:]
    said = runs.said()
    assert "the training goes on" in said
    assert "Traceback" not in said
    [parent], [finished], [dpo], [evaluated] = (runs.runs(each) for each in (None, "sft", "dpo", "evaluate"))
    assert {run.info.status for run in (parent, finished, dpo, evaluated)} == {"FINISHED"}
    assert finished.info.run_id == sft.info.run_id
    for metric in ("loss", "learning_rate", "grad_norm"):
        assert runs.steps(finished, metric) == SFT_STEPS
        assert runs.steps(dpo, metric) == DPO_STEPS
    for name in evaluated.data.metrics:
        assert len(runs.steps(evaluated, name)) == 1, name
    times = [point.timestamp / 1000 for point in runs.client.get_metric_history(sft.info.run_id, "loss")]
    for began, ended in windows:
        assert sum(began < each < ended for each in times) >= 2
    for name in ("pii-sft", "pii-dpo"):
        [version] = runs.client.search_model_versions(f"name='{name}'")
        assert version.current_stage == "Production"
    lost = " ".join(proxy.lost)
    assert all(each in lost for each in ("runs/create", "runs/log-batch", "model-versions/create", "transition-stage"))


@pytest.mark.faults
def test_killed_while_mlflow_is_away_then_it_never_comes_back_then_it_does_and_no_point_is_missing_or_double(behind):
    runs, proxy, outputs = behind
    # The process is killed while the server is away.
    process = runs.start(*SETTINGS, *LONG)
    sft = runs.wait_for_step("sft", 20)
    proxy.refuse()
    steps_go_on(runs, outputs, "sft", seconds=0)
    runs.kill_all(process)
    left = spooled(outputs, "sft")
    assert left
    proxy.restore()
    # The rerun delivers what was left first; then the server is away until its patience ends, after the training.
    process = runs.start(*SETTINGS, *LONG)
    wait_until(lambda: set(left) <= set(runs.steps(sft)) or process.poll() is not None, 200)
    proxy.refuse()
    assert process.wait(400) == 1, runs.said()[-4000:]
    said = " ".join(runs.said().split())
    assert "metrics of the run before are delivered first" in said
    assert "waiting for it" in said
    assert "they are kept in" in said
    assert "run the same again when MLflow answers" in said
    assert "Traceback" not in said
    assert max(spooled(outputs, "sft")) == 400
    assert list(outputs.glob("sft-*/adapter/adapter_model.safetensors"))
    proxy.restore()
    # The next one repeats no step; the server is away at the end of DPO and is back in time.
    process = runs.start(*SETTINGS, *LONG)
    runs.wait_for_step("dpo", 10)
    proxy.refuse()
    wait_for_words(runs, "waiting for it")
    proxy.restore()
    assert process.wait(400) == 0, runs.said()[-4000:]
    assert "going on from checkpoint-400" in runs.said()
    [parent], [finished], [dpo] = (runs.runs(each) for each in (None, "sft", "dpo"))
    assert {run.info.status for run in (parent, finished, dpo)} == {"FINISHED"}
    assert finished.info.run_id == sft.info.run_id
    assert runs.steps(finished) == SFT_STEPS
    assert runs.steps(dpo) == DPO_STEPS
    assert not spooled(outputs, "sft")
    assert not spooled(outputs, "dpo")


@pytest.mark.faults
def test_prefect_away_in_sft_and_at_the_end_holds_no_step_up_and_the_run_completes(runs, tmp_path):
    with prefect_server(tmp_path) as port:
        proxy = TcpProxy(port)
        runs.environment["PREFECT_API_URL"] = f"{proxy.url}/api"
        process = runs.start(*LONG)
        sft = runs.wait_for_step("sft", 20)
        began = time.time()
        proxy.refuse()
        runs.wait_for_step("sft", 100)
        ended = time.time()
        proxy.restore()
        dpo = runs.wait_for_step("dpo", 10)
        proxy.stall()
        wait_until(lambda: runs.runs()[0].info.status == "FINISHED" or process.poll() is not None, 300)
        assert process.poll() is None, runs.said()[-4000:]  # it wants to tell Prefect of its end
        proxy.restore()
        assert process.wait(400) == 0, runs.said()[-4000:]
        proxy.close()
        [flow_run] = httpx.post(f"http://127.0.0.1:{port}/api/flow_runs/filter", json={}).json()
        assert flow_run["state_type"] == "COMPLETED"
        assert runs.steps(sft) == SFT_STEPS
        assert runs.steps(dpo) == DPO_STEPS
        points = runs.client.get_metric_history(sft.info.run_id, "loss")
        times = [point.timestamp / 1000 for point in points if began < point.timestamp / 1000 < ended]
        assert max(b - a for a, b in pairwise(times)) < 20
