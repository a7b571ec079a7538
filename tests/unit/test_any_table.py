"""Any table of any cell types either passes, and is the same when read again, or fails naming rows."""

import datetime as dt
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook
from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError
from pii_finetune.records import Record
from pii_finetune.validation import ValidationReport, validate
from pii_finetune.workbook import read_workbook
from pii_finetune.workbook_writer import write_rows

TEXT = st.text(max_size=30).map(lambda text: ILLEGAL_CHARACTERS_RE.sub("", text).encode("utf-8", "ignore").decode())
CELLS = st.one_of(
    TEXT,
    st.none(),
    st.booleans(),
    st.integers(-(10**9), 10**9),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.dates(dt.date(1950, 1, 1), dt.date(2100, 1, 1)),
    st.sampled_from(["first name", "=1+1", "#N/A", "<|im_end|>", "\u0440assport", "yes", "no", "English", "de", "oui"]),
)
ROWS = st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=12)
GOOD = [(f"label {at}", "English", "yes" if at % 2 else "no") for at in range(30)]


def report_on(path: Path) -> ValidationReport:
    config = DataConfig(workbook=str(path), validation_fraction=0.1, test_fraction=0.2, seed=0)
    return validate(read_workbook(config), None, config)


def write(path: Path, rows: Sequence[Sequence[object]]) -> None:
    book = Workbook()
    for row in (("label", "language", "sensitive"), *rows):
        book.worksheets[0].append([*row])
    book.save(path)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(ROWS)
def test_any_table_passes_and_round_trips_or_fails_naming_rows(rows: list[tuple[object, object, object]]):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "book.xlsx"
        write(path, [*GOOD, *rows])
        report = report_on(path)
        if report.problems:
            assert report.records == ()
            named = {row for problem in report.problems for row in problem.rows}
            assert named
            assert named <= set(range(2, 32 + len(rows)))
            with pytest.raises(BadWorkbookError, match="rows? "):
                report.require_valid()
            return
        blank = sum(all(cell is None or cell == "" for cell in row) for row in rows)
        assert len(report.records) + report.num_duplicates == 30 + len(rows) - blank
        again = Path(folder) / "again.xlsx"
        write_rows(((r.label, r.language, r.answer) for r in report.records), again)
        assert plain(report_on(again).records) == plain(report.records)


def plain(records: Sequence[Record]) -> list[tuple[str, str, str]]:
    return [(r.label, r.language, r.answer) for r in records]
