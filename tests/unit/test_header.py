"""A header that does not stand first is pointed out."""

from pathlib import Path

import pytest
from openpyxl import Workbook

from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError
from pii_finetune.table_copy import copy_table
from pii_finetune.tables import read_table

HEADER = ["Label ", "language", "SENSITIVE"]
HINT = r"row 4 looks like the header \(label, language, sensitive\): delete the rows above it"


def settings(path: Path) -> DataConfig:
    return DataConfig(workbook=str(path), validation_fraction=0.1, test_fraction=0.2, seed=0)


def write_xlsx(path: Path, *rows: list[str]) -> Path:
    book = Workbook()
    for row in rows:
        book.worksheets[0].append(row)
    book.save(path)
    return path


@pytest.mark.parametrize("first", [["Labels of 2026"], []])
def test_a_header_below_titles_or_blank_rows_is_pointed_out(tmp_path: Path, first: list[str]):
    path = write_xlsx(tmp_path / "book.xlsx", first, [], [], HEADER, ["first name", "en", "yes"])
    with pytest.raises(BadWorkbookError, match=rf"has no column 'label' \(columns found: .*\); {HINT}"):
        read_table(path, settings(path))


@pytest.mark.parametrize(
    "text",
    [
        "Labels of 2026\nby the privacy team\n\nlabel,language,sensitive\nfirst name,en,yes\n",
        "\n\n\nlabel;language;sensitive\nfirst name;en;yes\n",
        '"Labels\nof 2026"\n\n"label"\t"language"\t"sensitive"\nfirst name\ten\tyes\n',
    ],
)
def test_a_header_further_down_a_delimited_text_is_pointed_out(tmp_path: Path, text: str):
    path = tmp_path / "book.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadWorkbookError, match=HINT):
        read_table(path, settings(path))


def test_a_table_without_such_a_row_is_told_to_rename_a_column(tmp_path: Path):
    path = write_xlsx(tmp_path / "book.xlsx", ["name", "language", "sensitive"], ["label", "en", "yes"])
    with pytest.raises(BadWorkbookError, match="has no column 'label'.*rename one"):
        read_table(path, settings(path))


def test_labels_to_be_scored_get_the_same_hint(tmp_path: Path):
    path = write_xlsx(tmp_path / "book.xlsx", ["Columns"], ["label", "owner"], ["first name", "me"])
    with pytest.raises(BadWorkbookError, match=r"row 2 looks like the header \(label\): delete the rows above it"):
        copy_table(path, settings(path), False, tmp_path / "out.arrow")
