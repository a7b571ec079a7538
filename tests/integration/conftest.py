import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from pii_finetune.calibration import IDENTITY
from pii_finetune.model_folder import write_model_folder
from pii_finetune.overrides import apply_overrides
from pii_finetune.profiles import embedded
from pii_finetune.quiet import quiet_libraries
from pii_finetune.registry import DPO_MODEL, PAIR, register
from pii_finetune.sft import train_sft
from pii_finetune.splits import split
from pii_finetune.tracking import close_run, open_run, parent_run
from pii_finetune.validation import validate
from pii_finetune.workbook import read_workbook

sys.path.insert(0, str(Path(__file__).parent))  # pytest imports test files without their folder
from postgres import find_binaries, postgres_server


@pytest.fixture(scope="session", autouse=True)
def _quiet():
    quiet_libraries()


@pytest.fixture(scope="session")
def config(small_workbook):
    """The embedded profile, cut to seconds."""
    return apply_overrides(
        embedded(),
        {
            "data.workbook": str(small_workbook),
            "sft.max_steps": 6,
            "dpo.max_steps": 3,
            "tracking.log_system_metrics": False,
        },
    )


@pytest.fixture(scope="session")
def splits(config):
    return split(validate(read_workbook(config.data), None).require_valid().records, config.data)


@pytest.fixture(scope="session")
def sft(config, splits, tmp_path_factory):
    """An SFT adapter of six real steps, with the updates it sent."""
    updates = []
    adapter = train_sft(splits, config, Path(tmp_path_factory.mktemp("sft")), updates.append)
    return adapter, updates


@pytest.fixture
def tracking(tmp_path, monkeypatch):
    """An MLflow store of its own."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return uri


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL server of our own, as postgresql://postgres@127.0.0.1:PORT; skips where there are no binaries."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL here: initdb and pg_ctl are neither on the PATH nor in /usr/lib/postgresql/*/bin")
    with postgres_server(binaries) as server:
        yield server.address


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    """MLflow's database without any content; copying it saves the seconds its making takes."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_registered_models()
    return path


@pytest.fixture
def registry_uri(empty_store, tmp_path, monkeypatch) -> str:
    """A registry of its own, in use, with three versions of pii-dpo and of pii-sft: version N of both is of run N."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.delenv("PII_FINETUNE_LOCK_URI", raising=False)
    mlflow.set_tracking_uri(uri)
    client = MlflowClient()
    for name in PAIR:
        client.create_registered_model(name)
        for number in range(1, 4):
            client.create_model_version(name, "s3://nowhere/model", tags={"run": f"run-{number}"})
    return uri


@pytest.fixture
def registered(config, sft, tracking, tmp_path):
    """Two versions of pii-dpo, neither in production."""
    run = open_run(config, {})
    write_model_folder(tmp_path / "model", sft[0].path, config.base, "f" * 64, IDENTITY)
    with parent_run(run):
        versions = [register(DPO_MODEL, tmp_path / "model", {"profile": "embedded"}, "a *test*") for _ in range(2)]
    close_run(run, "FINISHED")
    return [str(version.version) for version in versions]
