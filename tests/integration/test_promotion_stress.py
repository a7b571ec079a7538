"""Eight processes promote at once, fifty times each, while two others watch through MLflow and through SQL."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from postgres import create_database

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("stress_promotions.py")
FULL = ("--promoters", "8", "--promotions", "50")


def start(*arguments):
    return subprocess.Popen([sys.executable, PROGRAM, *arguments], stdout=subprocess.PIPE, text=True)


def result(process):
    said, _ = process.communicate(timeout=580)
    assert process.returncode == 0
    return json.loads(said)


def assert_nothing_was_ever_wrong(seen, num_promotions):
    assert seen["promoter"] == {"promoted": num_promotions}  # none failed
    client = seen["client"]
    assert client.pop("polls") > 10
    assert set(client) == {"get_latest_versions gave 1", "search_model_versions gave 1"}
    sql = seen["sql"]
    assert sql.pop("polls") > 100
    assert set(sql) <= {"1 in Production", "alias elsewhere, promotion under way"}
    assert seen["broken_links"] == 0  # each took the place of the one before it: none was overwritten unseen
    assert seen["recorded"] == num_promotions + 1
    for production, champion, is_pending in seen["end"].values():
        assert production == [champion]
        assert not is_pending


@pytest.fixture(scope="module")
def both(tmp_path_factory, postgres):
    """The two stores are tried at once: each has one promotion under way at any time, so that two cores are busy."""
    store = tmp_path_factory.mktemp("stress") / "mlflow.db"
    processes = {
        "sqlite": start(f"sqlite:///{store}", *FULL),
        "postgresql": start(create_database(postgres, "stress"), *FULL),
    }
    yield processes
    for process in processes.values():
        process.kill()


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_nobody_ever_sees_none_or_two_in_production(both, store):
    assert_nothing_was_ever_wrong(result(both[store]), 400)


@pytest.fixture
def server(empty_store, tmp_path):
    """An MLflow server over SQLite whose clients know its address only: (address, database)."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    database = f"sqlite:///{tmp_path}/mlflow.db"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = Path(sys.executable).with_name("mlflow")
    options = ["--backend-store-uri", database, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([program, "server", *options], stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                if httpx.get(f"{address}/health", timeout=2).is_success:
                    break
            except httpx.HTTPError:
                time.sleep(0.2)
        yield address, database
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def test_behind_a_server_tickets_keep_promotions_of_the_pair_apart(server):
    address, database = server
    seen = result(start(address, "--sql", database, "--promoters", "4", "--promotions", "3", "--pair"))
    assert_nothing_was_ever_wrong(seen, 12)
