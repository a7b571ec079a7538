"""`pii-finetune score` killed in the middle of a table, and started again."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pii_finetune.registry import DPO_MODEL, promote
from pii_finetune.table_copy import ROWS_PER_PIECE

pytestmark = pytest.mark.slow

NUM_PARTS = 24


@pytest.fixture
def source(tmp_path) -> Path:
    """Many rows of few labels, some new ones in each part: what is answered before decides what is asked later."""
    path = tmp_path / "in.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["label", "language", "note"])
        for number in range(NUM_PARTS * ROWS_PER_PIECE - 100):
            part = number // ROWS_PER_PIECE
            rows.writerow([f"field {part * 16 + number % 32}", ("English", "fr", "")[number % 3], f"row {number}"])
    return path


def command(source: Path, target: Path) -> list[str]:
    return [sys.executable, "-m", "cli.main", "score", str(source), "--out", str(target)]


def score(source: Path, target: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(command(source, target), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def figure(pattern: str, told: str) -> int:
    found = re.search(pattern, told)
    assert found, told
    return int(found[1].replace(",", ""))


def test_a_killed_scoring_goes_on_where_it_stopped_and_writes_the_same_bytes(registered, tracking, tmp_path, source):
    promote(DPO_MODEL, registered[0])
    environment = os.environ | {"MLFLOW_TRACKING_URI": tracking, "COLUMNS": "200"}
    target, whole = tmp_path / "out.csv", tmp_path / "whole.csv"
    with subprocess.Popen(command(source, target), env=environment, stderr=subprocess.DEVNULL) as killed:
        deadline = time.monotonic() + 240
        while not (tmp_path / ".out.csv.unfinished" / "part-000004.parquet").exists():
            assert killed.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        killed.send_signal(signal.SIGKILL)
    num_finished = len(list((tmp_path / ".out.csv.unfinished").glob("part-*.parquet")))
    assert num_finished < NUM_PARTS
    assert not target.exists()

    resumed, at_once = score(source, target, environment), score(source, whole, environment)
    assert target.read_bytes() == whole.read_bytes()
    kept = figure(r"([\d,]+) of them were answered before", resumed)
    assert kept == num_finished * ROWS_PER_PIECE
    asked, asked_at_once = (figure(r"\(([\d,]+) asked of the model\)", told) for told in (resumed, at_once))
    assert asked < asked_at_once
    assert not list(tmp_path.glob(".*"))
