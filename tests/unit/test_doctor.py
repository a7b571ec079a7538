from pathlib import Path

import pytest

from pii_finetune import doctor
from pii_finetune.doctor import Check, examine


def checks() -> dict[str, Check]:
    return {check.name: check for check in examine()}


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder that holds nothing but an empty lock."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(doctor, "ROOT", tmp_path)
    (tmp_path / "requirements.lock").write_text("# nothing\n", encoding="utf-8")
    return tmp_path


def test_an_installed_project_has_no_red_light(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert not [check for check in examine() if check.level == "red"]


def test_whatever_is_not_green_says_what_to_do(bare: Path):
    assert all(check.remedy for check in examine() if check.level != "green")


def test_a_missing_base_and_workbook_are_red(bare: Path):
    found = checks()
    assert found["embedded base"].level == found["workbook"].level == "red"
    assert "model.safetensors" in found["embedded base"].found


def test_another_version_than_the_locked_one_is_yellow(bare: Path):
    (bare / "requirements.lock").write_text("pytest==0.0.1\nno-such-package==1\n", encoding="utf-8")
    assert checks()["packages"].level == "yellow"
    assert "(lock: 0.0.1)" in checks()["packages"].found


def test_a_local_build_of_the_locked_version_is_the_locked_version(bare: Path):
    import torch

    public = torch.__version__.partition("+")[0]
    (bare / "requirements.lock").write_text(f"torch=={public}\n", encoding="utf-8")
    assert checks()["packages"].level == "green"


def test_a_doctor_does_not_die_of_what_it_finds(bare: Path):
    (bare / "requirements.lock").unlink()
    found = checks()["packages"]
    assert (found.level, found.found.split(":")[0]) == ("red", "FileNotFoundError")


def test_a_broken_store_is_red(bare: Path):
    (bare / "mlruns").mkdir()
    (bare / "mlruns" / "mlflow.db").write_bytes(b"not a database at all")
    assert checks()["tracking"].level == "red"


def test_looking_makes_no_store(bare: Path):
    assert checks()["MLflow"].level == "green"
    assert not (bare / "mlruns").exists()


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "postgresql://u@127.0.0.1:9/mlflow", "mlruns"])
def test_a_tracking_server_that_does_not_answer_is_red(bare: Path, monkeypatch: pytest.MonkeyPatch, address: str):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert checks()["MLflow"].level == "red"


def test_credentials_in_the_address_of_the_store_are_not_shown(bare: Path, monkeypatch: pytest.MonkeyPatch):
    for uri in ("http://user:hunter2@127.0.0.1:9", "postgresql://user:hunter2@db/mlflow"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert not [check for check in examine() if "hunter2" in check.found + check.remedy]
