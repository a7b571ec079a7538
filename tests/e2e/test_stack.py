import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from benchmarks.short_run import UNJUDGED

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """`make up` on ports and stores of its own."""
    folder = tmp_path_factory.mktemp("stack")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    environment |= {
        "PREFECT_PORT": str(free_port()),
        "MLFLOW_PORT": str(free_port()),
        "PREFECT_HOME": str(folder / "prefect"),
        "PYTHONUNBUFFERED": "1",
    }
    log = (folder / "log.txt").open("w")
    command = [sys.executable, "-m", "cli.stack", "--store", str(folder / "mlruns")]
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    deadline = time.monotonic() + 180
    while "ctrl-C stops all of it" not in (folder / "log.txt").read_text():
        assert process.poll() is None, (folder / "log.txt").read_text()
        assert time.monotonic() < deadline, (folder / "log.txt").read_text()
        time.sleep(0.5)
    yield process, environment, folder
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def test_the_watcher_is_scheduled(stack):
    _, environment, folder = stack
    api = f"http://127.0.0.1:{environment['PREFECT_PORT']}/api"
    wanted = {"flows": {"name": {"any_": ["pii-watch"]}}, "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
    deadline = time.monotonic() + 60
    while not httpx.post(f"{api}/flow_runs/filter", json=wanted).json():
        assert time.monotonic() < deadline, (folder / "log.txt").read_text()[-4000:]
        time.sleep(0.5)


def test_the_deployment_runs_as_typed_and_all_processes_end_with_ctrl_c(stack, small_workbook):
    process, environment, folder = stack
    api = f"http://127.0.0.1:{environment['PREFECT_PORT']}/api"
    quick = UNJUDGED | {"sft.max_steps": 4, "dpo.max_steps": 2, "output_dir": str(folder)}
    command = [str(BIN / "prefect"), "deployment", "run", "pii-finetune/main", "--watch"]
    command += ["--param", f"data={small_workbook}", "--param", f"overrides={json.dumps(quick)}"]
    done = subprocess.run(
        command, env=environment | {"PREFECT_API_URL": api}, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr + (folder / "log.txt").read_text()[-4000:]

    mlflow = f"http://127.0.0.1:{environment['MLFLOW_PORT']}/api/2.0/mlflow"
    versions = httpx.get(f"{mlflow}/model-versions/search", params={"filter": "name='pii-dpo'"}).json()[
        "model_versions"
    ]
    assert [version["current_stage"] for version in versions] == ["Production"]

    family = [process, *psutil.Process(process.pid).children(recursive=True)]
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert not [p for p in family[1:] if psutil.pid_exists(p.pid) and psutil.Process(p.pid).status() != "zombie"]


def test_a_port_that_is_taken_is_said_at_once(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment = os.environ | {"PREFECT_PORT": str(taken.getsockname()[1]), "MLFLOW_PORT": str(free_port())}
        done = subprocess.run(
            [sys.executable, "-m", "cli.stack", "--store", str(tmp_path)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert "set PREFECT_PORT to a free port" in " ".join(done.stdout.split())
