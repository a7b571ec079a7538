import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mlflow import MlflowClient
from prometheus_client import CollectorRegistry, generate_latest

from cli.main import main
from cli.metrics import Servers

RUN = {
    "expected_start_time": "2026-01-01T00:00:00+00:00",
    "start_time": "2026-01-01T00:00:00+00:00",
    "state_type": "CRASHED",
}
ANSWERS = {
    "/api/flows/filter": [{"id": "f", "name": "pii-finetune"}],
    "/api/flow_runs/filter": [RUN],
    "/api/flow_runs/count": 3,
    "/api/deployments/filter": [{"id": "d", "flow_id": "f", "name": "main"}],
    "/api/v2/concurrency_limits/filter": [{"name": "deployment:d", "limit": 1, "active_slots": 1}],
    "/api/work_pools/filter": [{"name": "gpu"}],
    "/api/work_pools/gpu/workers/filter": [{"status": "ONLINE"}, {"status": "OFFLINE"}],
}


class _Prefect(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        is_user = self.headers["Authorization"] == "Basic cGlpOnA="
        body = json.dumps(ANSWERS[self.path]).encode()
        self.send_response(200 if is_user else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):  # noqa: A002  its name in the base
        pass


@pytest.fixture
def prefect(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Prefect)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{server.server_port}/api")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "pii:p")
    yield
    server.shutdown()
    server.server_close()


@pytest.fixture
def store(tmp_path, monkeypatch):
    import mlflow

    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(address)
    yield MlflowClient()
    mlflow.set_tracking_uri(before)


def told(tmp_path):
    registry = CollectorRegistry(auto_describe=False)
    servers = Servers([tmp_path])
    servers.describe = list  # type: ignore[attr-defined]  # registering would ask the servers once more
    registry.register(servers)
    return generate_latest(registry).decode()


def test_runs_slots_workers_models_and_disk_are_told(prefect, store, tmp_path):
    experiment = store.create_experiment("pii-finetune")
    store.create_run(experiment, tags={"dataset_fingerprint": "rows"})
    store.create_registered_model("pii-dpo")
    tags = {"test_f1": "0.9593", "dataset_fingerprint": "rows"}
    store.create_model_version("pii-dpo", f"file://{tmp_path}", tags=tags)
    store.transition_model_version_stage("pii-dpo", "1", "Production")
    store.set_registered_model_alias("pii-dpo", "champion", "1")
    lines = told(tmp_path)
    for line in (
        'pii_flow_runs{flow="pii-finetune",state="Running"} 1.0',
        'pii_flow_runs_ended_last_day{flow="pii-finetune",state="Crashed"} 3.0',
        'pii_last_run_completed{flow="pii-finetune"} 0.0',
        'pii_slots{limit="pii-finetune/main"} 1.0',
        'pii_slots_taken{limit="pii-finetune/main"} 1.0',
        'pii_workers_online{pool="gpu"} 1.0',
        'pii_production_version{model="pii-dpo"} 1.0',
        'pii_production_figure{figure="f1",model="pii-dpo"} 0.9593',
        'pii_production_at_odds{model="pii-dpo"} 0.0',
        'pii_production_knows_newest_data{model="pii-dpo"} 1.0',
        'pii_server_up{server="prefect"} 1.0',
        'pii_server_up{server="mlflow"} 1.0',
    ):
        assert line in lines
    assert "pii_disk_free_bytes" in lines

    store.create_run(experiment, tags={"dataset_fingerprint": "other rows"})
    assert 'pii_production_knows_newest_data{model="pii-dpo"} 0.0' in told(tmp_path)


def test_each_variant_is_told_of_and_measured_by_the_rows_of_its_own_runs(prefect, store, tmp_path):
    experiment = store.create_experiment("pii-finetune")
    for name in ("pii-dpo", "pii-dpo-fr", "pii-dpo-empty", "pii-other", "another"):
        store.create_registered_model(name)
    for name, rows in (("pii-dpo", "rows"), ("pii-dpo-fr", "French rows"), ("pii-other", "rows")):
        store.create_model_version(name, f"file://{tmp_path}", tags={"test_f1": "0.5", "dataset_fingerprint": rows})
        store.transition_model_version_stage(name, "1", "Production")
    store.create_run(experiment, tags={"dataset_fingerprint": "rows"})
    store.create_run(experiment, tags={"dataset_fingerprint": "French rows", "variant": "fr"})
    lines = told(tmp_path)
    for name in ("pii-dpo", "pii-dpo-fr"):
        assert f'pii_production_version{{model="{name}"}} 1.0' in lines
        assert f'pii_production_knows_newest_data{{model="{name}"}} 1.0' in lines
    assert 'pii_production_at_odds{model="pii-dpo-empty"} 0.0' in lines
    assert "pii-other" not in lines

    store.create_run(experiment, tags={"dataset_fingerprint": "more French rows", "variant": "fr"})
    lines = told(tmp_path)
    assert 'pii_production_knows_newest_data{model="pii-dpo"} 1.0' in lines
    assert 'pii_production_knows_newest_data{model="pii-dpo-fr"} 0.0' in lines


def test_a_server_that_is_away_takes_away_its_own_figures_alone(prefect, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    lines = told(tmp_path)
    assert 'pii_server_up{server="mlflow"} 0.0' in lines
    assert 'pii_server_up{server="prefect"} 1.0' in lines
    assert 'pii_workers_online{pool="gpu"} 1.0' in lines
    assert "pii_production_version{" not in lines
    assert "metrics: mlflow: MLFLOW_TRACKING_URI=http://127.0.0.1:9" in capsys.readouterr().err


def test_without_the_password_prefect_counts_as_down(prefect, store, monkeypatch, tmp_path):
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "pii:wrong")
    assert 'pii_server_up{server="prefect"} 0.0' in told(tmp_path)


def test_a_server_that_is_not_named_is_told_in_one_line(capsys):
    assert main(["metrics"]) == 2
    assert "PREFECT_API_URL is not set: name the Prefect server to look at" in capsys.readouterr().err


def test_a_folder_that_is_not_there_has_no_disk(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert main(["metrics", "--disk", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: there is no such folder" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told_in_one_line(monkeypatch, store, capsys):
    taken = ThreadingHTTPServer(("127.0.0.1", 0), _Prefect)
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    try:
        assert main(["metrics", "--port", str(taken.server_port)]) == 2
    finally:
        taken.server_close()
    assert "cannot be listened on" in capsys.readouterr().err
