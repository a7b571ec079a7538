"""Who stands before the stack without the right key, or with a lesser one, finds every door shut."""

import base64
import json
import socket
import subprocess
import sys

import httpx
import pytest

pytestmark = [pytest.mark.stack, pytest.mark.timeout(3600)]

EVIL = "https://evil.example"
API_DOORS = (
    ("prefect", "POST", "/api/flow_runs/filter"),
    ("prefect", "POST", "/api/deployments/filter"),
    ("prefect", "GET", "/api/admin/settings"),
    ("prefect", "GET", "/api/metrics"),
    ("mlflow", "GET", "/api/2.0/mlflow/experiments/get-by-name?experiment_name=pii-finetune"),
    ("mlflow", "GET", "/api/2.0/mlflow/users/get?username=admin"),
    ("mlflow", "GET", "/api/2.0/mlflow-artifacts/artifacts"),
    ("mlflow", "GET", "/"),
)


@pytest.mark.parametrize(("server", "method", "path"), API_DOORS)
@pytest.mark.parametrize("auth", [None, ("admin", "password1234"), ("pii", ""), ("reader", "wrong")])
def test_nothing_is_had_without_credentials_or_with_wrong_ones(stack, server, method, path, auth):
    answer = httpx.request(method, getattr(stack, server) + path, auth=auth, json={} if method == "POST" else None)
    assert answer.status_code == 401, answer.text[:300]


@pytest.mark.parametrize("server", ["prefect", "mlflow"])
@pytest.mark.parametrize("host", ["evil.example", "10.evil.com", "192.168.evil.com", "127.0.0.1.evil.com", "prefect"])
def test_a_wrong_host_header_is_misdirected(stack, server, host):
    port = stack.prefect_port if server == "prefect" else stack.mlflow_port
    for named in (host, f"{host}:{port}"):
        assert httpx.get(f"{getattr(stack, server)}/api/health", headers={"Host": named}).status_code == 421


def test_behind_the_proxy_mlflow_checks_hosts_itself(stack):
    """Whatever is in the inner network, a rebound name is no key."""
    code = "import httpx, sys; sys.exit(httpx.get('http://mlflow:5000/', headers={'Host': '10.evil.com'}).text)"
    with pytest.raises(AssertionError, match="Invalid Host header"):
        stack.inside("worker", "python", "-c", code)


def test_another_origin_is_given_nothing_that_a_browser_would_pass_on(stack):
    asking = {
        "Origin": EVIL,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    for url in (f"{stack.prefect}/api/flow_runs/filter", f"{stack.mlflow}/api/2.0/mlflow/experiments/create"):
        preflight = httpx.options(url, headers=asking)
        assert preflight.headers.get("access-control-allow-origin") not in ("*", EVIL)
    answer = httpx.post(
        f"{stack.prefect}/api/flow_runs/filter", json={}, auth=stack.prefect_user, headers={"Origin": EVIL}
    )
    assert answer.headers.get("access-control-allow-origin") not in ("*", EVIL)
    worker = ("worker", stack.secrets["MLFLOW_WORKER_PASSWORD"])
    url = f"{stack.mlflow}/api/2.0/mlflow/experiments/create"
    answer = httpx.post(url, json={"name": "made from elsewhere"}, auth=worker, headers={"Origin": EVIL})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "../../../../etc/passwd",
        "..%2f..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "1/..%252f..%252f..%252fetc%252fpasswd",
        "//etc/passwd",
        "1/%5c..%5c..%5cetc%5cpasswd",
    ],
)
def test_artifacts_lead_to_no_other_file(stack, path):
    """Asked without a client that would tidy the path up first."""
    user = base64.b64encode(f"worker:{stack.secrets['MLFLOW_WORKER_PASSWORD']}".encode()).decode()
    for route in ("/api/2.0/mlflow-artifacts/artifacts/", "/get-artifact?run_uuid=0&path="):
        with socket.create_connection(("127.0.0.1", stack.mlflow_port), 30) as door:
            headers = f"Host: 127.0.0.1:{stack.mlflow_port}\r\nAuthorization: Basic {user}\r\nConnection: close"
            door.sendall(f"GET {route}{path} HTTP/1.1\r\n{headers}\r\n\r\n".encode())
            door.settimeout(60)
            answer = b""
            while part := door.recv(65536):
                answer += part
        assert b"root:" not in answer
        assert int(answer.split()[1]) >= 400, answer[:300]


def test_only_the_proxy_is_published(stack):
    published = {}
    for service in ("postgres", "prefect", "mlflow", "worker", "proxy"):
        found = json.loads(stack.run_engine("inspect", stack.container(service)))[0]
        published[service] = [
            each for bound in (found["NetworkSettings"]["Ports"] or {}).values() for each in bound or ()
        ]
    assert {name for name, ports in published.items() if ports} == {"proxy"}
    assert {each["HostIp"] for each in published["proxy"]} == {"127.0.0.1"}


def test_the_worker_reaches_no_database_and_the_database_nothing_outside(stack):
    code = "import socket; socket.create_connection(('postgres', 5432), 5)"
    with pytest.raises(AssertionError, match=r"gaierror|timed out|refused|unreachable"):
        stack.inside("worker", "python", "-c", code)


def test_the_reader_may_read_and_nothing_else(stack):
    reader = ("reader", stack.secrets["MLFLOW_READER_PASSWORD"])
    experiment = httpx.get(stack.experiment_url, auth=reader).json()["experiment"]["experiment_id"]
    refused = (
        ("runs/create", {"experiment_id": experiment}),
        ("experiments/delete", {"experiment_id": experiment}),
        ("registered-models/rename", {"name": "pii-dpo", "new_name": "mine"}),
        ("model-versions/create", {"name": "pii-dpo", "source": "models:/m-0"}),
        ("registered-models/alias", {"name": "pii-dpo", "alias": "champion", "version": "1"}),
        ("users/create", {"username": "mallory", "password": "long-enough-password"}),
    )
    for path, body in refused:
        answer = httpx.post(f"{stack.mlflow}/api/2.0/mlflow/{path}", json=body, auth=reader)
        assert answer.status_code == 403, f"{path}: {answer.status_code} {answer.text[:200]}"
    answer = httpx.request(
        "DELETE", f"{stack.mlflow}/api/2.0/mlflow/registered-models/delete", json={"name": "pii-dpo"}, auth=reader
    )
    assert answer.status_code == 403


def test_the_worker_manages_no_users(stack):
    worker = ("worker", stack.secrets["MLFLOW_WORKER_PASSWORD"])
    users = f"{stack.mlflow}/api/2.0/mlflow/users"
    assert httpx.post(f"{users}/create", json={"username": "m", "password": "x" * 20}, auth=worker).status_code == 403
    answer = httpx.patch(f"{users}/update-admin", json={"username": "worker", "is_admin": True}, auth=worker)
    assert answer.status_code == 403


def test_the_worker_holds_no_password_but_its_own(stack):
    seen = stack.inside("worker", "env")
    for name, value in stack.secrets.items():
        if name.endswith(("PASSWORD", "KEY")):
            assert (value in seen) == (name in ("PREFECT_PASSWORD", "MLFLOW_WORKER_PASSWORD")), name


def test_no_password_is_among_the_arguments_of_a_process(stack):
    listed = subprocess.run([sys.executable, "-c", PROCESSES], capture_output=True, text=True, check=True).stdout
    assert "mlflow" in listed
    assert not [name for name, value in stack.secrets.items() if name.endswith(("PASSWORD", "KEY")) and value in listed]


PROCESSES = """
from pathlib import Path
for each in Path("/proc").glob("[0-9]*/cmdline"):
    try:
        print(each.read_bytes().replace(b"\\0", b" ").decode(errors="replace"))
    except OSError:
        pass
"""
