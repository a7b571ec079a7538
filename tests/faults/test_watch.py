import os
import random
import threading
from datetime import timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness

from flows.watch import watch
from make_data.workbook import write_workbook
from pii_finetune.dataset_watch import read_rows
from pii_finetune.errors import MissingServerError
from pii_finetune.setup import build_config
from pii_finetune.tracking import close_run, log_datasets, open_run, parent_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _training():
    """A real Prefect API with a deployment pii-finetune/main; no worker, so that what was started stays countable."""
    with prefect_test_harness(server_startup_timeout=120), get_client(sync_client=True) as client:

        @flow(name="pii-finetune")
        def finetune(profile="", data=None, overrides=None):
            pass

        client.create_deployment(client.create_flow(finetune), "main")
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'mlflow.db'}"


@pytest.fixture(autouse=True)
def _tracking(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)


def said() -> str:
    """Return what the last look said."""
    with get_client(sync_client=True) as client:
        told = [each for each in client.read_artifacts() if each.key == "dataset-watch"]
    return max(told, key=lambda each: each.created).data


def started(path) -> list:
    with get_client(sync_client=True) as client:
        return [
            run
            for run in client.read_flow_runs()
            if "pii-watch" in run.tags and run.parameters.get("data") == str(path)
        ]


def look(path, **settings):
    return watch("embedded", str(path), stable_seconds=0.1, **settings)


def test_the_same_change_announced_ten_times_trains_once(small_workbook):
    for _ in range(10):
        look(small_workbook)
    assert len(started(small_workbook)) == 1


def test_other_formatting_and_order_train_nothing_and_other_rows_do(small_rows, tmp_path):
    path = tmp_path / "labels.xlsx"
    write_workbook(small_rows, path)
    look(path)
    write_workbook(random.Random(1).sample(small_rows, len(small_rows)), path)
    assert look(path) is None
    assert len(started(path)) == 1
    write_workbook(small_rows[:-1], path)
    assert look(path) is not None
    write_workbook(small_rows, path)  # what was trained on before comes back
    assert look(path) is not None
    assert len(started(path)) == 3


def test_force_trains_the_same_rows_again(small_rows, tmp_path):
    path = tmp_path / "labels.xlsx"
    write_workbook(small_rows, path)
    assert look(path) is not None
    assert look(path) is None
    assert look(path, force=True) is not None
    assert len(started(path)) == 2


def test_a_bad_workbook_starts_nothing_until_it_is_mended(small_rows, tmp_path):
    path = tmp_path / "labels.xlsx"
    write_workbook([(*small_rows[0][:2], "maybe", *small_rows[0][3:]), *small_rows[1:]], path)
    assert look(path) is None
    assert not started(path)
    write_workbook(small_rows, path)
    assert look(path) is not None


def test_a_url_is_watched_like_a_file(small_workbook, tmp_path):
    path = tmp_path / "labels.xlsx"
    os.link(small_workbook, path)
    assert look(f"file://{path}") is not None
    assert look(f"file://{path}") is None


def test_a_folder_is_watched_and_a_workbook_that_is_only_opened_changes_nothing(small_rows, tmp_path):
    folder = tmp_path / "tables"
    folder.mkdir()
    write_workbook(small_rows[:100], folder / "a.xlsx")
    assert look(folder) is not None
    (folder / "~$a.xlsx").write_bytes(b"open")
    assert look(folder) is None
    write_workbook(small_rows[100:], folder / "b.xlsx")
    assert look(folder) is not None
    assert len(started(folder)) == 2


def test_a_server_that_is_down_is_said_and_forgotten_when_it_is_back(small_rows, tmp_path):
    write_workbook(small_rows, tmp_path / "labels.xlsx")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/labels.xlsx"
        assert look(url) is not None
        server.shutdown()
        thread.join()
    assert look(url) is None
    assert "Nothing is known of the rows this time, and the next look tries again" in said()
    assert "ClientConnectorError" in said()
    server = ThreadingHTTPServer(("127.0.0.1", server.server_port), handler)
    with server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        assert look(url) is None
        assert "ClientConnectorError" not in said()
        server.shutdown()
        thread.join()
    assert len(started(url)) == 1


def test_rows_that_a_run_by_hand_was_trained_on_start_nothing_at_the_first_look(small_rows, tmp_path):
    path = tmp_path / "labels.xlsx"
    write_workbook(small_rows, path)
    config = build_config("embedded", str(path), {})
    run = open_run(config, {})
    with parent_run(run):
        log_datasets(path, read_rows(config).fingerprint, {})
    close_run(run, "FINISHED")
    assert look(path) is None
    assert f"MLflow run {run.run_id} was on these rows with these settings: nothing to do" in said()
    assert watch("embedded", str(path), {"sft.max_steps": 3}, stable_seconds=0.1) is not None
    write_workbook(small_rows[:-1], path)
    assert look(path) is not None


def test_no_attempt_is_spent_while_mlflow_is_down(small_workbook, tmp_path, monkeypatch):
    path = tmp_path / "labels.xlsx"
    os.link(small_workbook, path)
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
        with pytest.raises(MissingServerError):
            look(path)
    assert not started(path)
    assert look(path) is not None


def test_a_schedule_makes_runs(small_workbook):
    # With SQLAlchemy 2.1 Prefect 3.8.8 makes none, and says so in the server's log only.
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("pii-finetune/main")
        (schedule,) = client.create_deployment_schedules(
            deployment.id, [(IntervalSchedule(interval=timedelta(minutes=15)), True)]
        )
        url = f"{PREFECT_API_URL.value()}/deployments/{deployment.id}/schedule"
        httpx.post(url, json={}, timeout=60).raise_for_status()
        made = [run for run in client.read_flow_runs() if run.auto_scheduled]
        client.delete_deployment_schedule(deployment.id, schedule.id)
    assert made
