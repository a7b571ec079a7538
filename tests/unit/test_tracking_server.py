"""An MLflow server that is not there is told at once: MLflow itself retries for minutes."""

import re
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pii_finetune.errors import MissingServerError
from pii_finetune.tracking_server import require_server, with_driver


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://", "http://no-such-host.invalid:5000"])
def test_a_server_that_does_not_answer_is_named_with_the_variable(monkeypatch: pytest.MonkeyPatch, address: str):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(MissingServerError, match=f"MLFLOW_TRACKING_URI={address}: no answer"):
        require_server()


def test_a_mistyped_path_of_a_sqlite_store_makes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/typo/mlflow.db")
    with pytest.raises(MissingServerError, match=f"there is no folder {tmp_path}/typo"):
        require_server()
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("postgresql://me:geheim@127.0.0.1:9/mlflow", "the database there cannot be used (.*Connection refused"),
        ("mysql://me:geheim@127.0.0.1:9/mlflow", "the database there cannot be used (No module named"),
        ("foo://bar", "names nothing that can hold models; give the address of a server"),
        ("/some/folder", "names nothing that can hold models"),
        ("mlruns", "names nothing that can hold models"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, address: str, reason: str
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(MissingServerError, match=re.escape(reason).replace(r"\.\*", ".*")) as caught:
        require_server()
    assert "geheim" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "mlflow.db").write_text("no database at all, but text" * 40, encoding="utf-8")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    with pytest.raises(MissingServerError, match="cannot be used \\(file is not a database\\)"):
        require_server()


@pytest.mark.parametrize("status", [404, 500])
def test_a_server_that_is_no_mlflow_is_told(monkeypatch: pytest.MonkeyPatch, status: int):
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(status)

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        Thread(target=server.handle_request, daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(MissingServerError, match=f"no MLflow server in order \\(status {status}\\)"):
            require_server()


def test_a_database_that_is_not_made_yet_is_not_missed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    require_server()
    assert not (tmp_path / "mlflow.db").exists()


def test_postgresql_is_reached_by_the_driver_that_is_installed():
    assert with_driver("postgresql://u@h/d") == "postgresql+psycopg2://u@h/d"
    assert with_driver("postgresql+asyncpg://u@h/d") == "postgresql+asyncpg://u@h/d"
