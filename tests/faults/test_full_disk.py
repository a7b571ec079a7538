"""A disk that is really full: a tmpfs of a few megabytes, mounted where the tests may mount."""

import contextlib
import shutil
import sqlite3
import subprocess
import sys

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from pii_finetune.checkpoints import _is_of_the_disk, newest_whole
from pii_finetune.disk import told_if_full
from pii_finetune.errors import DiskFullError

pytestmark = pytest.mark.slow
MIB = 2**20


@pytest.fixture
def mount(tmp_path):
    """Mount a disk of so many MiB and return its folder."""
    mounted = []

    def make(mib):
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(folder)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no `mount` here")
        if done.returncode:
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)


def fill(folder, leave=0):
    """Fill the disk but for so many bytes."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(MIB))
    ballast.open("ab").truncate(max(0, ballast.stat().st_size - leave))
    return ballast


WEIGHTS = {"weight": torch.zeros(2 * MIB // 4)}


def _copy_tree(folder):
    source = folder.parent / "source"
    source.mkdir()
    (source / "file").write_bytes(bytes(2 * MIB))
    shutil.copytree(source, folder / "copy")


def _write_parquet(folder):
    pq.write_table(pa.table({"column": torch.rand(MIB).numpy()}), folder / "table.parquet")


def _insert(folder):
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database:
        database.execute("create table runs (content blob)")
        database.execute("insert into runs values (zeroblob(2097152))")
        database.commit()


WRITERS = {
    "torch": lambda folder: torch.save(WEIGHTS, folder / "optimizer.pt"),
    "safetensors": lambda folder: save_file(WEIGHTS, folder / "model.safetensors"),
    "file": lambda folder: (folder / "file").write_bytes(bytes(2 * MIB)),
    "copytree": _copy_tree,
    "parquet": _write_parquet,
    "sqlite": _insert,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_is_told_in_one_line_whatever_wrote(mount, kind):
    disk = mount(1)
    with pytest.raises(DiskFullError) as told, told_if_full("the thing", disk, "then start again"):
        WRITERS[kind](disk)
    line = str(told.value)
    assert "\n" not in line
    assert line.startswith(f"the thing could not be written to {disk}")
    assert "bytes are free" in line
    assert line.endswith("then start again")
    if kind in ("torch", "safetensors", "file"):
        for left in disk.iterdir():
            left.unlink()
        with pytest.raises(Exception) as raw:  # noqa: PT011  each library has a kind of its own
            WRITERS[kind](disk)
        assert _is_of_the_disk(raw.value)


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path):
    for error in (RuntimeError("CUDA error: an illegal memory access"), ValueError("a bug"), PermissionError(13, "no")):
        with pytest.raises(type(error)), told_if_full("the thing", tmp_path, "start again"):
            raise error
    assert not _is_of_the_disk(RuntimeError("CUDA error: an illegal memory access was encountered"))


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_training_goes_on_without_checkpoints_and_all_else_ends_in_one_line(runs, mount, tmp_path, small_rows):
    disk = mount(48)
    here = ["--set", f"output_dir={disk}", "--set", "sft.max_steps=500"]

    # While checkpoints are written: the training goes on to its end, and the checkpoint before stays.
    process = runs.start(*here)
    runs.wait_for_step("sft", 20)
    ballast = fill(disk, leave=500_000)
    assert process.wait(500) == 1
    said = runs.said()
    warned = [line for line in said.splitlines() if "no checkpoint could be written" in line]
    assert warned, said[-3000:]
    assert f"{disk}/sft-" in said
    assert "needed; the training goes on" in said.replace("\n", " ")
    [sft] = runs.runs("sft")
    assert runs.steps(sft)[-1] == 500
    # Then the adapter: one line, and nothing was kept that is cut off.
    assert "the adapter could not be written to" in said
    assert "Traceback" not in said
    assert sft.info.status == "FAILED"
    [folder] = disk.glob("sft-*")
    newest, skipped = newest_whole(folder / "checkpoints")
    assert newest is not None
    assert not skipped

    # With room again, it goes on.
    ballast.unlink()
    said = runs.finish(*here)
    assert f"going on from {newest.name}" in said

    # The table that `score` writes is whole or not there.
    table, out = tmp_path / "labels.csv", disk / "answers.csv"
    table.write_text("label,language,note\n" + f"{small_rows[0][0]},English,{'x' * 500}\n" * 4000, encoding="utf-8")
    ballast = fill(disk, leave=400_000)
    command = [sys.executable, "-m", "cli.main", "score", str(table), "--out", str(out)]
    told = subprocess.run(command, env=runs.environment, capture_output=True, text=True, check=False, timeout=500)
    assert told.returncode == 1, told.stderr
    [line] = told.stderr.strip().splitlines()
    assert f"--out {out} could not be written to {disk}" in line
    assert not out.exists()
    ballast.unlink()
    done = subprocess.run(command, env=runs.environment, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    assert len(out.read_text().splitlines()) == 4001


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_full_disk_under_mlflow_ends_the_run_in_one_line_that_names_it(runs, mount):
    disk = mount(16)
    store = f"sqlite:///{disk / 'mlflow.db'}"
    runs.environment["MLFLOW_TRACKING_URI"] = store
    runs.client = mlflow.MlflowClient(store)
    short = ["--set", "sft.max_steps=500", "--set", "dpo.max_steps=5"]
    process = runs.start(*short)
    runs.wait_for_step("sft", 5)
    ballast = fill(disk)
    assert process.wait(500) == 1
    said = runs.said()
    [told] = [line for line in said.splitlines() if line.startswith("Failed: ")]
    # What comes first: the figures of the training, which wait in a spool, or anything else.
    assert str(disk) in told
    assert "disk is full" in said
    assert "Traceback" not in said
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    said = runs.finish(*short)
    assert "going on from checkpoint-" in said
