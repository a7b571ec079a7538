"""The alerts and the dashboard, by a real Prometheus where there is one; Grafana itself is not run."""

import http.server
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "docker" / "monitoring"
DASHBOARD = json.loads((MONITORING / "grafana" / "dashboards" / "pii-finetune.json").read_text())
pytestmark = [pytest.mark.stack, pytest.mark.timeout(3600)]  # the images are built in the first of them
needs_prometheus = pytest.mark.skipif(shutil.which("prometheus") is None, reason="no prometheus on this machine")
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on this machine")

QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
GROUPS = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
ALERTS = [rule for group in GROUPS for rule in group["rules"]]


@needs_promtool
def test_every_alert_fires_when_it_is_to_and_not_before(tmp_path):
    for source in (MONITORING / "alerts.yml", ROOT / "tests" / "stack" / "alerts_test.yml"):
        shutil.copy(source, tmp_path)
    done = subprocess.run(
        ["promtool", "test", "rules", "alerts_test.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_every_alert_is_among_the_tested():
    tests = yaml.safe_load((ROOT / "tests" / "stack" / "alerts_test.yml").read_text())["tests"]
    firing = {each["alertname"] for test in tests for each in test["alert_rule_test"] if each["exp_alerts"]}
    assert firing == {rule["alert"] for rule in ALERTS}


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory, servers):
    """A Prometheus with the project's own file, but for addresses, passwords and pace."""
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copy(MONITORING / "alerts.yml", folder)
    text = (MONITORING / "prometheus.yml").read_text()
    for service, address in servers.items():
        text = text.replace(service, address)
    port = _free_port()
    text = text.replace("127.0.0.1:9090", f"127.0.0.1:{port}").replace("30s", "2s").replace("25s", "2s")
    text = text.replace("/tmp/", f"{folder}/")
    (folder / "prefect-password").write_text("p")
    (folder / "mlflow-password").write_text("m")
    (folder / "prometheus.yml").write_text(text)
    options = [f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={folder / 'prometheus.yml'}", *options], cwd=folder, stderr=log
        )
    try:
        yield f"http://127.0.0.1:{port}/api/v1"
    finally:
        process.kill()
        process.wait()


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class _Server(http.server.ThreadingHTTPServer):
    role = ""


class _Exposition(http.server.BaseHTTPRequestHandler):
    """Gives what the real servers were once seen to give."""

    def do_GET(self):
        assert isinstance(self.server, _Server)
        name = self.server.role
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write((Path(__file__).parent / "expositions" / f"{name}.txt").read_bytes())

    def log_message(self, format, *args):  # noqa: A002  its name in the base
        pass


@pytest.fixture(scope="module")
def servers():
    running = {}
    for service in ("metrics:9400", "prefect:4200", "mlflow:5000"):
        server = _Server(("127.0.0.1", 0), _Exposition)
        server.role = service.partition(":")[0]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running[service] = server
    yield {service: f"127.0.0.1:{server.server_port}" for service, server in running.items()}
    for server in running.values():
        server.shutdown()
        server.server_close()


def wait_for_data(prometheus, query, seconds=90):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(f"{prometheus}/query", params={"query": query}, timeout=10)
        except httpx.HTTPError:
            time.sleep(0.5)
            continue
        assert answer.status_code in (200, 503), f"{query}: {answer.text}"
        if answer.is_success and (found := answer.json()["data"]["result"]):
            return found
        time.sleep(0.5)
    raise AssertionError(f"{query}: no data in {seconds} s")


@needs_prometheus
@pytest.mark.parametrize("query", QUERIES)
def test_every_query_of_the_dashboard_gives_data(prometheus, query):
    wait_for_data(prometheus, query)


@needs_prometheus
@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_metric_that_an_alert_reads_is_given(prometheus, rule):
    names = set(re.findall(r"\b(?:pii_|mlflow_)\w+|\bup\b", rule["expr"]))
    assert names
    for name in names:
        wait_for_data(prometheus, name)
    answer = httpx.get(f"{prometheus}/query", params={"query": rule["expr"]}, timeout=10).json()
    assert answer["status"] == "success"


def test_the_dashboard_asks_the_datasource_that_is_provisioned():
    sources = yaml.safe_load((MONITORING / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text())
    uids = {source["uid"] for source in sources["datasources"]}
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == uids
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in DASHBOARD["panels"]:
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
