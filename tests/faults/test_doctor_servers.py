"""What the doctor says of real servers that want credentials, and of ones that never answer."""

import json
import os
import socket
import subprocess
import sys
import threading
import time

import httpx
import pytest
from servers import mlflow_server, prefect_server

from pii_finetune.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.faults]

SECRET = "correct-horse-battery"


@pytest.fixture(scope="module")
def prefect(tmp_path_factory):
    with prefect_server(tmp_path_factory.mktemp("prefect"), PREFECT_SERVER_API_AUTH_STRING=f"admin:{SECRET}") as port:
        yield f"http://127.0.0.1:{port}/api"


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    settings = folder / "auth.ini"
    settings.write_text(
        "[mlflow]\ndefault_permission = READ\nadmin_username = admin\n"
        f"database_uri = sqlite:///{folder / 'auth.db'}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_AUTH_ADMIN_PASSWORD": SECRET,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "for this test",
    }
    with mlflow_server(folder, "--app-name", "basic-auth", **environment) as port:
        yield f"http://127.0.0.1:{port}"


def doctor(**settings):
    """Run it in a process of its own; return its exit code and its checks by section and name."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", "doctor", "--json"],
        env=inherited | settings | {"HF_HUB_OFFLINE": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert SECRET not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    checks = json.loads(done.stdout)
    return done.returncode, {(check["section"], check["name"]): check for check in checks}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "wants credentials, and none are set (401)"),
        ({"PREFECT_API_AUTH_STRING": "admin:x"}, "does not accept the"),
    ],
)
def test_a_prefect_server_that_refuses_is_told_from_one_that_is_down(prefect, settings, told):
    code, checks = doctor(PREFECT_API_URL=prefect, **settings)
    assert code == 1
    assert (checks["Prefect", "Prefect"]["level"], told in checks["Prefect", "Prefect"]["found"]) == ("red", True)
    assert "PREFECT_API_AUTH_STRING" in checks["Prefect", "Prefect"]["remedy"]
    assert ("Prefect", "deployments") not in checks


def test_a_prefect_server_that_lets_us_in_is_looked_through(prefect):
    code, checks = doctor(PREFECT_API_URL=prefect, PREFECT_API_AUTH_STRING=f"admin:{SECRET}")
    assert code == 1  # nothing is deployed there
    levels = {name: check["level"] for (section, name), check in checks.items() if section == "Prefect"}
    assert levels["Prefect"] == levels["version"] == levels["clock"] == "green"
    assert levels["work pool"] == levels["deployments"] == levels["automations"] == "red"


@pytest.mark.parametrize(
    ("user", "password", "told"),
    [(None, None, "wants credentials, and none are set"), ("admin", "wrong-horse-battery", "does not accept")],
)
def test_an_mlflow_server_that_refuses_is_told_from_one_that_is_down(mlflow, user, password, told):
    given = {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password} if user else {}
    code, checks = doctor(MLFLOW_TRACKING_URI=mlflow, **given)
    assert (code, told in checks["MLflow", "MLflow"]["found"]) == (1, True)
    assert "MLFLOW_TRACKING_USERNAME" in checks["MLflow", "MLflow"]["remedy"]


def test_an_mlflow_server_that_lets_us_in_is_looked_through(mlflow):
    given = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": SECRET}
    code, checks = doctor(MLFLOW_TRACKING_URI=mlflow, **given)
    assert code == 0
    names = {name: check["level"] for (section, name), check in checks.items() if section == "MLflow"}
    assert names == dict.fromkeys(("MLflow", "version", "clock", "experiments", "models"), "green")


def test_an_mlflow_server_that_does_not_go_by_our_name_is_told(tmp_path):
    with mlflow_server(tmp_path, MLFLOW_SERVER_ALLOWED_HOSTS="mlflow.example.com") as port:
        code, checks = doctor(MLFLOW_TRACKING_URI=f"http://127.0.0.1:{port}")
    assert code == 1
    assert "does not go by this name" in checks["MLflow", "experiments"]["found"]
    assert "MLFLOW_SERVER_ALLOWED_HOSTS" in checks["MLflow", "experiments"]["remedy"]


@pytest.mark.parametrize("trickles", [False, True])
def test_servers_that_hold_the_line_cost_less_than_a_minute_together(trickles):
    """One says nothing; the other says a byte a second, which no timeout for a single answer sees."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=_accept, args=(listening, trickles), daemon=True).start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        begun = time.monotonic()
        code, checks = doctor(PREFECT_API_URL=f"{address}/api", MLFLOW_TRACKING_URI=address)
        spent = time.monotonic() - begun
    assert code == 1
    assert checks["Prefect", "Prefect"]["level"] == checks["MLflow", "MLflow"]["level"] == "red"
    assert spent < 60  # 9 for both, and what it takes to import PyTorch, MLflow and Prefect on a slow machine


def _accept(listening, trickles):
    kept = []
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        kept.append(connection)
        if trickles:
            threading.Thread(target=_trickle, args=(connection,), daemon=True).start()


def _trickle(connection):
    try:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            connection.sendall(b"x")
            time.sleep(1)
    except OSError:
        return


def test_the_servers_really_ask_for_credentials(prefect, mlflow):
    assert httpx.get(f"{prefect}/admin/version", timeout=60).status_code == 401
    assert httpx.get(f"{mlflow}/version", timeout=60).status_code == 401
