"""Parquet files whose cells stand for no value."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError
from pii_finetune.table_copy import copy_table
from pii_finetune.tables import read_table

GOOD = {"label": ["a", "b", "c"], "language": ["en", "de", "fr"], "sensitive": [True, False, None]}


def settings(path: Path) -> DataConfig:
    return DataConfig(workbook=str(path), validation_fraction=0.1, test_fraction=0.2, seed=0)


def write(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table({**GOOD, **columns}), path)
    return path


def not_utf8() -> pa.Array:
    bytes_ = pa.array([b"a", b"\xff", b"c"])
    return pa.Array.from_buffers(pa.string(), 3, [None, *bytes_.buffers()[1:]])


def test_what_stands_in_columns_that_are_not_used_is_not_read(tmp_path: Path):
    path = write(
        tmp_path / "rows.parquet",
        seen=pa.array([1, 2, 3], pa.timestamp("us", "Mars/Olympus")),
        until=pa.array([2**50] * 3, pa.timestamp("s")),
        comment=not_utf8(),
    )
    table = read_table(path, settings(path))
    assert table.rows["label"].to_pylist() == ["a", "b", "c"]
    assert table.extra_columns == ("seen", "until", "comment")


@pytest.mark.parametrize(
    "column",
    [not_utf8(), pa.array([1, 2**50, 3], pa.timestamp("s")), pa.array([1, 2, 3], pa.timestamp("us", "Mars/Olympus"))],
)
def test_a_cell_that_stands_for_no_value_is_a_bad_cell(tmp_path: Path, column: pa.Array):
    path = write(tmp_path / "rows.parquet", label=column)
    assert read_table(path, settings(path)).rows["label_kind"].to_pylist()[1] == "unclear"


def test_labels_to_be_scored_that_are_not_utf8_are_refused(tmp_path: Path):
    path = write(tmp_path / "rows.parquet", label=not_utf8())
    with pytest.raises(BadWorkbookError, match="cannot be read as a Parquet file .*; write it again"):
        copy_table(path, settings(path), False, tmp_path / "out.arrow")
