import json
import os
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pii_finetune.errors import BadWorkbookError, OutputOutOfReachError
from pii_finetune.ray_scoring.output import OutputFolder
from pii_finetune.ray_scoring.part import find_finished
from pii_finetune.ray_scoring.plan import Job, make_plan
from pii_finetune.row_range import RowRange

PLAN = "_plan.json"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


def test_a_folder_is_made_and_what_is_put_there_is_whole(tmp_path: Path, file: Path):
    output = OutputFolder(str(tmp_path / "out"))
    output.prepare(PLAN)
    output.put("part", file)
    output.put_text(PLAN, "{}")
    assert output.names() == {"part", PLAN}
    assert (tmp_path / "out" / "part").read_bytes() == b"content"
    output.prepare(PLAN)  # once more: it is ours
    output.remove("part")
    output.remove("part")
    assert output.names() == {PLAN}


def test_a_file_that_cannot_be_written_whole_leaves_neither_its_name_nor_a_rest(tmp_path, file, monkeypatch):
    output = OutputFolder(str(tmp_path / "out"))
    output.prepare(PLAN)

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        output.put("part", file)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("file", "is a file; name a folder"),
        ("none/out", "there is no folder .*none; make it first"),
        ("out.csv", "becomes a folder of parts; name it without such an ending"),
        ("full", r"holds other files \(a, b, c and 1 more\); name a new or an empty folder"),
        ("/proc/out", "cannot be written to"),
    ],
)
def test_what_cannot_become_a_folder_of_parts_is_refused_in_one_line(tmp_path, file, name: str, told: str):
    (tmp_path / "full").mkdir()
    for other in "abcd":
        (tmp_path / "full" / other).touch()
    with pytest.raises(BadWorkbookError, match=f"--out .*{told}") as refused:
        OutputFolder(str(tmp_path / name)).prepare(PLAN)
    assert "\n" not in str(refused.value)


def test_a_folder_that_another_process_writes_is_refused_and_rests_of_killed_ones_are_cleared(tmp_path: Path):
    output = OutputFolder(str(tmp_path / "out"))
    output.prepare(PLAN)
    (tmp_path / "out" / ".part-000000.parquet.1234.new").touch()
    with output.held():
        assert output.names() == set()
        with pytest.raises(BadWorkbookError, match="another process is writing it"), output.held():
            pass
    with output.held():
        pass


class FailingStore(MemoryFileSystem):
    """An object store that takes nothing."""

    protocol = "s3"

    def put_file(self, *_: object, **__: object) -> None:
        raise PermissionError("Access Denied")


def test_a_store_that_takes_nothing_is_told_in_one_line_without_the_secrets_of_its_url(file, monkeypatch):
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda *_, **__: (FailingStore(), "/bucket/out"))
    with pytest.raises(OutputOutOfReachError, match=r"--out s3://bucket/out: .*PermissionError: Access Denied"):
        OutputFolder("s3://user:secret@bucket/out").put("part", file)


def test_only_parts_that_are_whole_and_of_this_job_are_kept(tmp_path: Path):
    job = Job({}, ("label", None), 4_096, "m", "c")
    plan = make_plan(job, {"a.csv": [RowRange(at * 2, 2) for at in range(5)]})
    output = OutputFolder(str(tmp_path / "out"))
    output.prepare(PLAN)
    counts = {"num_rows": 2, "num_asked": 1, "answers": {"yes": 2}, "unknown_languages": {}}

    def write(number: int, num_rows: int, job_key: str) -> Path:
        note = {"job": job_key, "part": number, **counts}
        schema = pa.schema([pa.field("label", pa.string())], metadata={"pii_finetune": json.dumps(note)})
        path = tmp_path / "out" / plan.parts[number].name
        pq.write_table(pa.table({"label": ["a"] * num_rows}, schema=schema), path)
        return path

    write(0, 2, job.key)
    cut = write(1, 2, job.key)
    cut.write_bytes(cut.read_bytes()[:-1])
    write(2, 1, job.key)
    write(3, 2, "another job")
    found = find_finished(plan, output)
    assert list(found) == [0]
    assert found[0].answers == {"yes": 2}
