"""Cells that hold something, but nothing a model can be asked about: told by what they are, and where."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openpyxl import Workbook

from pii_finetune.errors import BadWorkbookError
from pii_finetune.profiles import embedded
from pii_finetune.table_copy import copy_table


def write(path: Path, rows: Sequence[Sequence[object]], merged: str = "") -> Path:
    book = Workbook()
    for row in rows:
        book.worksheets[0].append([*row])
    if merged:
        book.worksheets[0].merge_cells(merged)
    book.save(path)
    return path


def copied(path: Path) -> pa.Table:
    copy_table(path, embedded().data, False, path.with_name("rows.arrow"))
    with pa.OSFile(str(path.with_name("rows.arrow"))) as file:
        return pa.ipc.open_stream(file).read_all()


def refused(path: Path) -> str:
    with pytest.raises(BadWorkbookError) as caught:
        copied(path)
    return str(caught.value)


def test_a_formula_without_a_saved_result_is_called_a_formula_and_not_empty(tmp_path: Path):
    rows = [["label", "language"], ["iban", "English"], ["=A2", "English"], [None, "English"], ["name", "=B2"]]
    told = refused(write(tmp_path / "in.xlsx", rows))
    assert "a formula whose result was not saved instead of a label in row 3; paste the cells as values" in told
    assert "no label in row 4" in told
    assert "a formula whose result was not saved instead of a language in row 5" in told


def test_a_merged_cell_is_called_one(tmp_path: Path):
    told = refused(write(tmp_path / "in.xlsx", [["label", "n"], ["iban", 1], ["name", 2], [None, 3]], "A3:A4"))
    assert told.endswith("a merged cell instead of a label in row 4; unmerge it and fill each cell")


def test_a_formula_in_a_column_that_is_only_kept_is_kept_as_its_text(tmp_path: Path):
    table = copied(write(tmp_path / "in.xlsx", [["label", "note"], ["iban", "=A2"], ["name", "plain"]]))
    assert table.column(3).to_pylist() == ["=A2", "plain"]


@pytest.mark.parametrize("cell", [["a"], {"k": 1}, b"name"])
def test_a_label_that_is_no_text_is_refused_and_not_spelled_out(tmp_path: Path, cell: object):
    pq.write_table(pa.table({"label": [cell], "language": ["en"]}), tmp_path / "in.parquet")
    assert "a list, a structure or bytes instead of a label in row 2; write it as text" in refused(
        tmp_path / "in.parquet"
    )
    pq.write_table(pa.table({"label": ["a"], "language": [cell]}), tmp_path / "in.parquet")
    assert "instead of a language in row 2" in refused(tmp_path / "in.parquet")


def test_a_list_in_a_column_that_is_only_kept_stays_a_list(tmp_path: Path):
    pq.write_table(pa.table({"label": ["a"], "tags": [["x", "y"]]}), tmp_path / "in.parquet")
    assert copied(tmp_path / "in.parquet").column("tags").to_pylist() == [["x", "y"]]


def test_a_number_too_long_for_a_whole_number_stays_what_it_was(tmp_path: Path):
    assert copied(write(tmp_path / "in.xlsx", [["label", "n"], ["a", 1e300]])).column("n").to_pylist() == [1e300]
