import logging
import os
import random

import pytest
import torch

from make_data.workbook import Row, write_workbook

os.environ.setdefault("PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW", "ignore")


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU"))


@pytest.fixture(autouse=True)
def _no_server_of_the_user(monkeypatch):
    """No test writes to the servers, or the store, of whoever runs it."""
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _the_package_log_is_heard(monkeypatch):
    """A flow that ran in this process hands the package's log on in its own way; `caplog` listens at the root."""
    package = logging.getLogger("pii_finetune")
    monkeypatch.setattr(package, "handlers", [])
    monkeypatch.setattr(package, "propagate", True)


@pytest.fixture(scope="session")
def small_rows() -> list[Row]:
    """160 rows of the shipped workbook's making: enough to split, few enough to train on in seconds."""
    from make_data.glossary import GLOSSARY, read_glossary
    from make_data.workbook import build_rows

    rows = build_rows(read_glossary(GLOSSARY))
    return random.Random(0).sample(rows, 160)


@pytest.fixture(scope="session")
def small_workbook(tmp_path_factory, small_rows):
    path = tmp_path_factory.mktemp("workbook") / "small.xlsx"
    write_workbook(small_rows, path)
    return path
