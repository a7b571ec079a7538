"""An MLflow server that is not there is told at once: MLflow itself retries for minutes."""

from pathlib import Path

import pytest

from pii_finetune.errors import MissingServerError
from pii_finetune.tracking import require_server


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


@pytest.mark.parametrize("address", ["", "postgresql://somewhere/mlflow"])
def test_a_local_store_or_a_database_is_not_asked(monkeypatch: pytest.MonkeyPatch, address: str):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    require_server()
