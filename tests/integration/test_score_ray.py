"""`pii-finetune score --engine ray` on a folder of tables of several kinds, beside the local engine."""

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from pii_finetune.registry import DPO_MODEL, promote
from pii_finetune.table_copy import ROWS_PER_PIECE

pytestmark = pytest.mark.slow

NUM_CSV, NUM_PARQUET, NUM_XLSX = 2 * ROWS_PER_PIECE + 50, ROWS_PER_PIECE + 300, 40
TOLERANCE = 1e-5  # questions are asked in other batches, whose sums are rounded otherwise


def rows(name: str, count: int) -> pd.DataFrame:
    """Few labels, so that little is asked; and a column that tells every row from all others."""
    kinds = [f"{name} field {at % 20}" for at in range(count)]
    languages = [("English", "fr", "")[at % 3] for at in range(count)]
    return pd.DataFrame({"label": kinds, "language": languages, "note": [f"{name} {at}\n." for at in range(count)]})


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("lake") / "in"
    folder.mkdir()
    rows("a", NUM_CSV).to_csv(folder / "a.csv", index=False, quoting=csv.QUOTE_ALL)
    rows("b", NUM_PARQUET).to_parquet(folder / "b.parquet", index=False, row_group_size=3_000)
    rows("c", NUM_XLSX).to_excel(folder / "c.xlsx", index=False)
    (folder / "readme.md").touch()
    return folder


@pytest.fixture
def environment(registered, tracking) -> dict[str, str]:
    promote(DPO_MODEL, registered[0])
    return os.environ | {"MLFLOW_TRACKING_URI": tracking, "OMP_WAIT_POLICY": "passive", "COLUMNS": "300"}


def score(environment: dict[str, str], source: Path, target: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Score to the end; nothing of Ray's may be left then."""
    command = [sys.executable, "-m", "cli.main", "score", str(source), "--out", str(target), *more]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        said, errors = process.communicate(timeout=550)
    prefix = f"pii-ray-{process.pid}-"  # of the folder that processes of Ray name in their command lines
    assert [each for each in psutil.process_iter(["cmdline"]) if prefix in " ".join(each.info["cmdline"] or [])] == []
    assert list(Path(tempfile.gettempdir()).glob(f"{prefix}*")) == []
    return subprocess.CompletedProcess(command, process.returncode, said, errors)


def test_a_folder_is_answered_each_row_once_as_by_the_local_engine(environment, tmp_path, source):
    """Also: nothing of Ray's is said or left; a rerun does nothing; other parts are refused in one line."""
    target = tmp_path / "out"
    ray = ("--engine", "ray", "--num-workers", "2", "--rows-per-part", str(ROWS_PER_PIECE))
    done = score(environment, source, target, *ray)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    num_rows = NUM_CSV + NUM_PARQUET + NUM_XLSX
    assert f"{num_rows:,} labels" in done.stdout
    assert "not read (of no kind that is read): readme.md" in done.stdout

    found = pd.read_parquet(target)  # a folder as a table: the plan and the manifest are passed over
    expected = pd.concat([rows("a", NUM_CSV), rows("b", NUM_PARQUET), rows("c", NUM_XLSX)], ignore_index=True)
    assert sorted(found["note"]) == sorted(expected["note"])
    manifest = json.loads((target / "_manifest.json").read_text(encoding="utf-8"))
    assert manifest["num_rows"] == num_rows == sum(part["num_rows"] for part in manifest["parts"])
    assert {part.name for part in target.glob("part-*")} == {part["name"] for part in manifest["parts"]}
    assert len(manifest["parts"]) == 3 + 2 + 1

    expected.to_csv(tmp_path / "whole.csv", index=False)
    local = score(environment, tmp_path / "whole.csv", tmp_path / "local.parquet")
    assert local.returncode == 0, local.stderr
    both = found.merge(pd.read_parquet(tmp_path / "local.parquet"), on="note", suffixes=("", "_local"))
    assert len(both) == num_rows
    assert np.abs(both["probability"] - both["probability_local"]).max() <= TOLERANCE
    near = np.abs(both["probability"] - 0.5) <= TOLERANCE
    assert ((both["sensitive"] == both["sensitive_local"]) | near).all()

    before = {part: part.stat().st_mtime_ns for part in target.iterdir()}
    again = score(environment, source, target, *ray)
    assert f"{num_rows:,} of them were answered before" in again.stdout
    assert {part: part.stat().st_mtime_ns for part in target.iterdir()} == before

    refused = score(environment, source, target, *ray, "--language-column", "note")
    assert refused.returncode == 2
    assert "holds parts of another scoring (the columns asked for are others)" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
