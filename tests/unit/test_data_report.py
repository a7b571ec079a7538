import errno
import zipfile
from pathlib import Path

import pytest
from openpyxl import Workbook, load_workbook

from cli.main import main
from pii_finetune.checkpoint import Checkpoint

HEADER = ["label", "language", "sensitive"]
GOOD = [[f"label {at}", "English", "yes" if at % 2 else "no"] for at in range(30)]  # rows 2 to 31
BAD = [
    ["<b>bold</b> [red]", "Klingon", "maybe"],  # 32
    ["=A2", "English", "no"],
    ["eman\u202etxt", "English", "no"],
    [" spaced\u00a0out ", "deutsch", "ja"],  # 35: mended by itself
]


@pytest.fixture
def book(tmp_path: Path) -> Path:
    workbook = Workbook()
    for row in (HEADER, *GOOD, *BAD):
        workbook.worksheets[0].append(row)
    workbook.worksheets[0]["A3"].comment = None
    workbook.worksheets[0]["B5"].number_format = "0.00"
    path = tmp_path / "book.xlsx"
    workbook.save(path)
    return path


def test_the_page_names_each_bad_cell_and_escapes_what_the_workbook_says(book: Path, tmp_path: Path):
    assert main(["validate", str(book), "--report", str(tmp_path / "out.html")]) == 2
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert "Cannot be used yet" in page
    assert "&#39;Klingon&#39;" in page
    assert "&#39;eman\\u202etxt&#39;" in page
    assert "<b>bold" not in page
    assert "\u202e" not in page
    assert "<script" not in page
    for row in (32, 33, 34):
        assert f'<td class="number">{row}</td>' in page
    assert '<td class="number">35</td>' not in page


def test_the_page_on_a_good_workbook_has_languages_and_advice(tmp_path: Path):
    assert main(["validate", "data/PII_dataset_2.xlsx", "--report", str(tmp_path / "out.html")]) == 0
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert "Can be used." in page
    assert "<td>Telugu</td>" in page
    assert "Suspected answers" in page


def test_the_copy_has_comments_on_bad_cells_and_leaves_the_others_as_they_are(book: Path, tmp_path: Path):
    before = book.read_bytes()
    assert main(["validate", str(book), "--fixed", str(tmp_path / "fixed.xlsx")]) == 2
    assert book.read_bytes() == before
    old, new = (load_workbook(path).worksheets[0] for path in (book, tmp_path / "fixed.xlsx"))
    assert [[cell.value for cell in row] for row in new] == [[cell.value for cell in row] for row in old]
    assert new["B5"].number_format == "0.00"
    commented = {cell.coordinate: cell.comment.text for row in new for cell in row if cell.comment}
    assert sorted(commented) == ["A33", "A34", "B32", "C32"]
    assert "write its English name or two-letter code" in commented["B32"]
    assert new["A32"].fill.fill_type is None


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--report", "out.txt"], "the ending must be .html"),
        (["--fixed", "out.csv"], "the ending must be .xlsx"),
        (["--report", "none/out.html"], "name another file in a folder that exists"),
        (["--fixed", "book.xlsx"], "name another file in a folder that exists"),
    ],
)
def test_a_page_that_cannot_be_written_is_told_first(
    book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], options: list[str], reason: str
):
    monkeypatch.chdir(book.parent)
    assert main(["validate", "book.xlsx", *options]) == 2
    assert reason in capsys.readouterr().err


def test_comments_are_refused_for_a_file_that_cannot_hold_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "book.csv").write_text("label,language,sensitive\n")
    assert main(["validate", str(tmp_path / "book.csv"), "--fixed", str(tmp_path / "out.xlsx")]) == 2
    assert "comments can be put into an .xlsx workbook only" in capsys.readouterr().err


def test_where_no_copy_can_be_made_the_bad_rows_are_told_all_the_same(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with zipfile.ZipFile(book) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    del parts["[Content_Types].xml"]  # which openpyxl wants and the other readers do not
    with zipfile.ZipFile(book, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    assert main(["validate", str(book), "--fixed", str(tmp_path / "fixed.xlsx")]) == 2
    shown = capsys.readouterr()
    assert "no copy with comments" in shown.out
    assert "Rows to mend" in shown.out
    assert "rows 32" in shown.err or "row 32" in shown.err
    assert not (tmp_path / "fixed.xlsx").exists()


def test_data_docs_that_cannot_be_written_are_told(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Checkpoint, "write_docs", fail)
    assert main(["validate", str(book), "--docs", str(tmp_path / "docs")]) == 2
    assert "cannot be written (No space left on device); free space, or name another folder" in capsys.readouterr().err


def test_a_file_whose_name_is_no_text_is_told_to_be_renamed(capsys: pytest.CaptureFixture[str]):
    assert main(["validate", "\udcff.csv"]) == 2
    assert "the file's name is not UTF-8; rename it" in capsys.readouterr().err
