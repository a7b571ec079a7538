import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest
import sqlalchemy as sa
from mlflow import MlflowClient
from postgres import create_database

from pii_finetune.errors import BadConfigError, MissingServerError, PromotionLockedError
from pii_finetune.promotion_lock import promotion_lock, user_at_host
from pii_finetune.promotion_tickets import LOCK_MODEL, ticket_lock

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).with_name("hold_promotion_lock.py")


@contextmanager
def held_elsewhere(uri, lease_seconds=0.0):
    """Another process that holds the lock; yields it."""
    command = [sys.executable, "-W", "ignore", PROGRAM, uri, str(lease_seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(params=["sqlite", "postgresql", "a file"])
def place(request, tmp_path, monkeypatch):
    """A place of the lock; MLflow itself needs no store for it."""
    monkeypatch.delenv("PII_FINETUNE_LOCK_URI", raising=False)
    if request.param == "a file":
        monkeypatch.setenv("PII_FINETUNE_LOCK_URI", f"file://{tmp_path}/lock")
        uri = "http://127.0.0.1:9"
    elif request.param == "sqlite":
        uri = f"sqlite:///{tmp_path}/mlflow.db"
    else:
        uri = create_database(request.getfixturevalue("postgres"), f"lock{time.monotonic_ns()}")
    mlflow.set_tracking_uri(uri)
    return uri


def test_a_lock_held_by_another_process_is_refused_with_its_name_and_freed_by_its_death(place):
    with held_elsewhere(place) as other:
        started = time.monotonic()
        with pytest.raises(PromotionLockedError) as refused, promotion_lock(0.3):
            pass
        assert 0.3 <= time.monotonic() - started < 5
        assert f"{user_at_host()} pid {other.pid} since 20" in str(refused.value)
        os.kill(other.pid, signal.SIGKILL)
        with promotion_lock(10.0) as confirm:
            confirm()


def test_two_threads_of_a_process_exclude_each_other(place):
    inside, most = [], []

    def work():
        for _ in range(5):
            with promotion_lock(30.0):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.005)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20


def test_an_error_frees_the_lock(place):
    with pytest.raises(ZeroDivisionError), promotion_lock():
        _ = 1 / 0
    with promotion_lock(0.1):
        pass


def test_two_names_of_one_database_are_one_lock(tmp_path, monkeypatch):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/real/mlflow.db")
    with promotion_lock():
        monkeypatch.setenv("PII_FINETUNE_LOCK_URI", f"sqlite:///{tmp_path}/link/mlflow.db")
        with pytest.raises(PromotionLockedError), promotion_lock(0.1):
            pass


def test_a_lock_file_that_is_deleted_while_it_is_held_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setenv("PII_FINETUNE_LOCK_URI", str(tmp_path / "lock"))
    with promotion_lock() as confirm:
        confirm()
        (tmp_path / "lock").unlink()
        with pytest.raises(PromotionLockedError, match="was deleted"):
            confirm()


def test_a_broken_connection_to_the_database_of_the_lock_is_noticed(postgres, monkeypatch):
    uri = create_database(postgres, "broken")
    monkeypatch.setenv("PII_FINETUNE_LOCK_URI", uri)
    with promotion_lock() as confirm:
        with sa.create_engine(uri).connect() as administrator:
            administrator.execute(sa.text("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"))
        with pytest.raises(PromotionLockedError, match="connection that held the promotion lock broke"):
            confirm()


@pytest.mark.parametrize("uri", ["relative/lock", "http://server/", "file:///no/such/folder/lock"])
def test_a_lock_that_can_be_nowhere_is_bad_usage(uri, monkeypatch):
    monkeypatch.setenv("PII_FINETUNE_LOCK_URI", uri)
    with pytest.raises(BadConfigError, match="nor an absolute path"), promotion_lock():
        pass


def test_a_database_that_does_not_answer_is_told_without_its_password(monkeypatch):
    monkeypatch.setenv("PII_FINETUNE_LOCK_URI", "postgresql://mlflow:secret@127.0.0.1:9/mlflow")
    with pytest.raises(MissingServerError) as refused, promotion_lock():
        pass
    assert "127.0.0.1:9/mlflow: the database that holds the promotion lock" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_ticket_waits_for_the_one_before_and_passes_a_dead_one_over(registry_uri):
    with held_elsewhere(registry_uri, lease_seconds=2.0) as other:
        with pytest.raises(PromotionLockedError, match=f"pid {other.pid} holds it"), ticket_lock("me", 0.3, 2.0):
            pass
        os.kill(other.pid, signal.SIGKILL)
        started = time.monotonic()
        with ticket_lock("me", 20.0, 2.0) as confirm:
            confirm()
        assert time.monotonic() - started > 1.5
    assert MlflowClient().search_model_versions(f"name='{LOCK_MODEL}'") == []


def test_a_holder_that_was_taken_for_dead_finds_out_before_it_writes(registry_uri):
    with (
        ticket_lock("the slow one", 5.0, 0.5) as confirm,
        ticket_lock("the next", 20.0, 0.5) as other,  # watches half a second, then takes its turn
    ):
        with pytest.raises(PromotionLockedError, match="lost its turn"):
            confirm()
        other()
