"""What is written for cells that are no plain text."""

import json
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from openpyxl import load_workbook

from pii_finetune.score_output import neutralise, write_table


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (["x", "é"], '["x", "é"]'),
        ({"k": 1, "of": [None, 0.5]}, '{"k": 1, "of": [null, 0.5]}'),
        ([("a", 1)], '[["a", 1]]'),
        ([b"name", Decimal("1.10")], '["name", "1.10"]'),
        (b"pr\xc3\xa9nom", "prénom"),
        (b"\xff\x00", "ff00"),
        (b"=1+1", "'=1+1"),
    ],
)
def test_what_a_table_of_cells_has_no_place_for_is_written_so_that_programs_can_read_it(cell: object, text: str):
    assert neutralise(cell) == text


def test_a_list_survives_in_parquet_and_is_json_elsewhere(tmp_path: Path):
    piece = pa.record_batch({"tags": [["x", "=y"], None]})
    for kind in (".csv", ".parquet", ".xlsx"):
        write_table(piece.schema, [piece], tmp_path / f"out{kind}", kind)
    assert pa.parquet.read_table(tmp_path / "out.parquet").to_pydict() == {"tags": [["x", "=y"], None]}
    assert json.loads(load_workbook(tmp_path / "out.xlsx").worksheets[0]["A2"].value) == ["x", "=y"]
    assert (tmp_path / "out.csv").read_text() == 'tags\n"[""x"", ""=y""]"\n""\n'


def test_a_number_that_a_sheet_would_round_is_written_as_text(tmp_path: Path):
    piece = pa.record_batch({"id": [2**53, 2**53 + 1, -(2**53) - 1]})
    write_table(piece.schema, [piece], tmp_path / "out.xlsx", ".xlsx")
    cells = [row[0].value for row in load_workbook(tmp_path / "out.xlsx").worksheets[0]["A2:A4"]]
    assert cells == [2**53, "9007199254740993", "'-9007199254740993"]
