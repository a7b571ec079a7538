from pathlib import Path

import pytest

from pii_finetune.overrides import apply_overrides
from pii_finetune.profiles import embedded
from pii_finetune.quiet import quiet_libraries
from pii_finetune.sft import train_sft
from pii_finetune.splits import split
from pii_finetune.validation import validate
from pii_finetune.workbook import read_workbook


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
