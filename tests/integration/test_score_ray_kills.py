"""`pii-finetune score --engine ray` while a worker, or the command itself, is killed."""

import contextlib
import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest

from pii_finetune.registry import DPO_MODEL, promote
from pii_finetune.table_copy import ROWS_PER_PIECE

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(1800)]

NUM_PARTS, NUM_LABELS = 10, 800  # of each part: so many labels take a worker some seconds
NUM_ROWS = NUM_PARTS * ROWS_PER_PIECE - 100


@pytest.fixture
def source(tmp_path) -> Path:
    path = tmp_path / "in.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["label", "note"])
        table.writerows((f"field {at % NUM_LABELS} of {at // ROWS_PER_PIECE}", at) for at in range(NUM_ROWS))
    return path


class Scoring:
    """The command in a process of its own, and what belongs to it."""

    def __init__(self, source: Path, tracking: str) -> None:
        self.target = source.with_name("out")
        self._command = [sys.executable, "-m", "cli.main", "score", str(source), "--out", str(self.target)]
        self._command += ["--engine", "ray", "--num-workers", "2", "--rows-per-part", str(ROWS_PER_PIECE)]
        self._environment = os.environ | {
            "MLFLOW_TRACKING_URI": tracking,
            "COLUMNS": "300",
            "OMP_WAIT_POLICY": "passive",
        }
        self.seen: set[psutil.Process] = set()
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def parts(self) -> dict[str, int]:
        return {part.name: part.stat().st_mtime_ns for part in self.target.glob("part-*.parquet")}

    def workers(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            self.seen |= set(psutil.Process(self.process.pid).children(recursive=True))
        return [each for each in self.seen if is_there(each) and "MapWorker" in " ".join(each.cmdline())]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 900
        while not condition():
            assert self.process.poll() is None, self.process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def finish(self) -> str:
        said, _ = self.process.communicate(timeout=1200)
        assert self.process.returncode == 0, said
        return said

    def require_each_row_once(self) -> None:
        found = pd.read_parquet(self.target)
        assert sorted(int(note) for note in found["note"]) == list(range(NUM_ROWS))
        assert found["probability"].notna().all()
        assert {path.name for path in self.target.iterdir()} == {*self.parts(), "_plan.json", "_manifest.json"}


def is_there(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture
def scoring(registered, tracking, source) -> Iterator[Scoring]:
    promote(DPO_MODEL, registered[0])
    made = Scoring(source, tracking)
    try:
        yield made
    finally:
        made.workers()
        for process in [made.process, *made.seen]:
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                process.kill()
        made.process.wait()


def test_a_killed_worker_is_replaced_and_each_row_is_answered_once(scoring):
    scoring.wait_for(lambda: len(scoring.parts()) >= 1 and bool(scoring.workers()))
    (victim, *_) = scoring.workers()
    assert len(scoring.parts()) < NUM_PARTS
    victim.send_signal(signal.SIGKILL)
    said = scoring.finish()
    assert f"{NUM_ROWS:,} labels" in said
    scoring.require_each_row_once()


def test_a_killed_command_leaves_no_process_and_the_next_one_goes_on_with_what_is_missing(scoring):
    scoring.wait_for(lambda: len(scoring.parts()) >= 3 and bool(scoring.workers()))
    scoring.process.kill()
    scoring.process.communicate()
    deadline = time.monotonic() + 300
    while left := [process for process in scoring.seen if is_there(process)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)
    kept = scoring.parts()
    assert 3 <= len(kept) < NUM_PARTS
    assert not (scoring.target / "_manifest.json").exists()
    cut = scoring.target / min(kept)
    num_kept = sum(pq.read_metadata(scoring.target / name).num_rows for name in kept if name != cut.name)
    cut.write_bytes(cut.read_bytes()[:-100])  # as a file system that lost its cache may leave it

    scoring.start()
    said = scoring.finish()
    assert f"{num_kept:,} of them were answered before" in said
    after = scoring.parts()
    assert {name for name in kept if after[name] != kept[name]} == {cut.name}
    scoring.require_each_row_once()
