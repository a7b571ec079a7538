"""Ranges of rows, read by themselves, against the whole table."""

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pii_finetune.errors import BadWorkbookError
from pii_finetune.remote_table import RemoteTable
from pii_finetune.score_copy import Columns, reading_settings
from pii_finetune.table_copy import ROWS_PER_PIECE, copy_table, split_table

NUM_ROWS = 3 * ROWS_PER_PIECE + 100
LABELS = [f"Straße {at}" + ("\nzwei, drei" if at % 1_000 == 7 else "") for at in range(NUM_ROWS)]


def write_csv(path: Path, encoding: str) -> None:
    with path.open("w", encoding=encoding, newline="") as file:
        rows = csv.writer(file, delimiter=";")
        rows.writerow(["note\nof two lines", "label"])
        rows.writerows((at, label) for at, label in enumerate(LABELS))
        file.write("\n\n")


@pytest.fixture(params=["utf-8", "utf-8-sig", "utf-16", "parquet, groups of 5,000", "parquet, one group"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    kind, _, groups = request.param.partition(", ")
    if kind == "parquet":
        table = pa.table({"note": list(range(NUM_ROWS)), "label": LABELS})
        pq.write_table(table, tmp_path / "a.parquet", row_group_size=5_000 if "5,000" in groups else NUM_ROWS)
        return tmp_path / "a.parquet"
    write_csv(tmp_path / "a.csv", kind)
    return tmp_path / "a.csv"


def read(path: Path) -> pa.Table:
    with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as pieces:
        return pieces.read_all()


@pytest.mark.parametrize("is_url", [False, True])
def test_the_ranges_of_a_table_hold_each_row_once_and_in_order(path: Path, is_url: bool, tmp_path: Path):
    settings = reading_settings(Columns(), path.suffix, path.stat().st_size)
    table = RemoteTable(path.as_uri()) if is_url else path
    ranges = split_table(table, settings, False, ROWS_PER_PIECE)
    assert len(ranges) >= 3
    assert [rows.first for rows in ranges] == [sum(each.num_rows for each in ranges[:at]) for at in range(len(ranges))]
    copies = []
    for rows in reversed(ranges):
        assert copy_table(table, settings, False, tmp_path / "rows.arrow", rows) == rows.num_rows
        copies.insert(0, read(tmp_path / "rows.arrow"))
    copy_table(path, settings, False, tmp_path / "rows.arrow")
    whole = read(tmp_path / "rows.arrow")
    assert whole.num_rows == NUM_ROWS
    assert pa.concat_tables(copies).equals(whole)


def test_a_bad_label_far_down_is_found_while_the_table_is_split_and_told_by_its_line(tmp_path: Path):
    write_csv(tmp_path / "a.csv", "utf-8")
    settings = reading_settings(Columns(), ".csv", 0)
    text = (tmp_path / "a.csv").read_text(encoding="utf-8")
    (tmp_path / "a.csv").write_text(text.replace("Straße 9000", ""), encoding="utf-8")
    with pytest.raises(BadWorkbookError, match="no label in row 9012"):
        split_table(tmp_path / "a.csv", settings, False, ROWS_PER_PIECE)


def test_a_row_of_a_range_is_told_by_its_line_in_the_file(tmp_path: Path):
    write_csv(tmp_path / "a.csv", "utf-8")
    settings = reading_settings(Columns(), ".csv", 0)
    last = split_table(tmp_path / "a.csv", settings, False, ROWS_PER_PIECE)[-1]
    content, label = (tmp_path / "a.csv").read_bytes(), f"Straße {last.first}".encode()
    (tmp_path / "a.csv").write_bytes(content.replace(label, b" " * len(label)))  # so that nothing else moves
    with pytest.raises(BadWorkbookError, match=f"no label in row {last.num_lines + 1}"):
        copy_table(tmp_path / "a.csv", settings, False, tmp_path / "rows.arrow", last)
