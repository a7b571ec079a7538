import os
import random

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.testing.utilities import prefect_test_harness

from flows.watch import watch
from make_data.workbook import write_workbook

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _training():
    """A real Prefect API with a deployment pii-finetune/main; no worker, so that what was started stays countable."""
    with prefect_test_harness(server_startup_timeout=120), get_client(sync_client=True) as client:

        @flow(name="pii-finetune")
        def finetune(profile="", data=None, overrides=None):
            pass

        client.create_deployment(client.create_flow(finetune), "main")
        yield


def started(path) -> list:
    with get_client(sync_client=True) as client:
        return [
            run
            for run in client.read_flow_runs()
            if "pii-watch" in run.tags and run.parameters.get("data") == str(path)
        ]


def look(path, **settings):
    return watch("embedded", str(path), stable_seconds=0.1, **settings)


def test_the_same_change_announced_ten_times_trains_once(small_workbook):
    for _ in range(10):
        look(small_workbook)
    assert len(started(small_workbook)) == 1


def test_other_formatting_and_order_train_nothing_and_other_rows_do(small_rows, tmp_path):
    path = tmp_path / "labels.xlsx"
    write_workbook(small_rows, path)
    look(path)
    write_workbook(random.Random(1).sample(small_rows, len(small_rows)), path)
    assert look(path) is None
    assert len(started(path)) == 1
    write_workbook(small_rows[:-1], path)
    assert look(path) is not None
    write_workbook(small_rows, path)  # what was trained on before comes back
    assert look(path) is not None
    assert len(started(path)) == 3


def test_force_trains_the_same_rows_again(small_rows, tmp_path):
    path = tmp_path / "labels.xlsx"
    write_workbook(small_rows, path)
    assert look(path) is not None
    assert look(path) is None
    assert look(path, force=True) is not None
    assert len(started(path)) == 2


def test_a_bad_workbook_starts_nothing_until_it_is_mended(small_rows, tmp_path):
    path = tmp_path / "labels.xlsx"
    write_workbook([(*small_rows[0][:2], "maybe", *small_rows[0][3:]), *small_rows[1:]], path)
    assert look(path) is None
    assert not started(path)
    write_workbook(small_rows, path)
    assert look(path) is not None


def test_a_url_is_watched_like_a_file(small_workbook, tmp_path):
    path = tmp_path / "labels.xlsx"
    os.link(small_workbook, path)
    assert look(f"file://{path}") is not None
    assert look(f"file://{path}") is None
