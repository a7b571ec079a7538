import csv
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openpyxl.utils.exceptions import IllegalCharacterError

from pii_finetune import score_answers, score_table, table_copy
from pii_finetune.errors import BadWorkbookError
from pii_finetune.score_copy import Columns
from pii_finetune.score_output import neutralise, write_table
from pii_finetune.score_table import ScoreReport
from pii_finetune.score_table import score_table as score_into
from pii_finetune.scores import Question

MODEL = "models:/not-reached/1"


class FakeModel:
    """Holds labels of an odd length for sensitive, and remembers what it was asked."""

    def __init__(self, has_review_band: bool = False) -> None:
        self.identity = "a"
        self.columns = ("sensitive", "probability", *(("decision",) if has_review_band else ()))
        self.asked: list[Question] = []
        self.fails_at = 10**9

    def answer(self, questions: Sequence[Question]) -> list[tuple[str | float, ...]]:
        self.asked += questions
        if len(self.asked) > self.fails_at:
            raise KeyboardInterrupt
        answers = [("yes" if len(label) % 2 else "no", 1 / (2 + len(label)), "review") for label, _ in questions]
        return [answer[: len(self.columns)] for answer in answers]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    fake = FakeModel()
    monkeypatch.setattr(score_table, "table_model", lambda _: nullcontext(fake))
    return fake


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text("label,language\nfirst name,English\n", encoding="utf-8")
    return path


@pytest.fixture
def score(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Path], ScoreReport]:
    """Score as the command line does, but read in this process: the other one has its own tests."""

    def copy(path: Path, config: object, language_is_required: bool, target: Path) -> int:
        return table_copy.copy_table(path, config, language_is_required, target)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(score_table, "copy_isolated", copy)
    return lambda source, target, *columns: score_into(source, target, MODEL, *columns)


def read(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def read_excel(path: Path, **options: Any) -> pd.DataFrame:
    return pd.read_excel(path, engine="openpyxl", **options)


@pytest.mark.parametrize("name", ["out.txt", "out", "out.xls", "out.csv.gz"])
def test_an_ending_that_does_not_say_what_to_write_is_refused(score, source: Path, name: str):
    with pytest.raises(BadWorkbookError, match=r"the ending must be .csv, .xlsx or .parquet"):
        score(source, source.with_name(name))


def test_a_folder_that_is_not_there_is_not_made(score, source: Path):
    with pytest.raises(BadWorkbookError, match="there is no folder .*; make it first"):
        score(source, source.parent / "none" / "out.csv")
    assert not (source.parent / "none").exists()


def test_a_folder_that_cannot_be_written_to_is_told_before_a_model_is_loaded(score, source: Path):
    with pytest.raises(BadWorkbookError, match=r"--out /proc/out.csv: nothing can be written to /proc"):
        score(source, Path("/proc/out.csv"))


def test_the_table_itself_is_never_overwritten(score, source: Path):
    before = source.read_text()
    with pytest.raises(BadWorkbookError, match="is the table itself, which would be lost"):
        score(source, source.parent / "." / source.name)
    assert source.read_text() == before


def test_a_target_that_is_a_folder_is_refused_before_scoring(score, source: Path):
    (source.parent / "folder.csv").mkdir()
    with pytest.raises(BadWorkbookError, match="is a folder"):
        score(source, source.parent / "folder.csv")


@pytest.mark.parametrize("name", ["none.csv", "none.xlsx"])
def test_a_file_that_is_not_there_is_told_by_name(score, tmp_path: Path, name: str):
    with pytest.raises(BadWorkbookError, match=rf"{name}: cannot be read .*\(No such file or directory\)"):
        score(tmp_path / name, tmp_path / "out.csv")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\xff\xfe\x00", "is not UTF-16"),
        ("a.csv", b"label\n\xe9t\xe9\n", "is not UTF-8"),
        ("a.xlsx", b"label\n", "cannot be read as an .xlsx workbook"),
        ("a.parquet", b"label\n", "cannot be read as a Parquet file"),
        ("a.json", b"{}", "of no kind that can be read"),
    ],
)
def test_a_file_that_is_no_table_is_refused_with_the_reason(score, tmp_path: Path, name: str, content: bytes, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadWorkbookError, match=f"{name}: .*{reason}"):
        score(tmp_path / name, tmp_path / "out.csv")


def test_a_spreadsheet_is_read_by_a_process_of_its_own_after_its_archive_was_checked(model, tmp_path: Path):
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04 and no archive")
    with pytest.raises(BadWorkbookError, match="the archive is damaged"):
        score_into(tmp_path / "a.xlsx", tmp_path / "out.csv", MODEL)
    assert not model.asked


@pytest.mark.parametrize("header", ["name,language", "label,Label"])
def test_a_table_needs_exactly_one_column_label(score, source: Path, header: str):
    source.write_text(f"{header}\na,b\n", encoding="utf-8")
    with pytest.raises(BadWorkbookError, match=r"exactly one column 'label'.*\(columns found: '"):
        score(source, source.with_name("out.csv"))


def test_a_second_label_column_is_refused_in_both_formats(score, tmp_path: Path):
    rows = pd.DataFrame([["label", "label"], ["a", "b"]])
    rows.to_csv(tmp_path / "two.csv", index=False, header=False)
    rows.to_excel(tmp_path / "two.xlsx", index=False, header=False)
    for name in ("two.csv", "two.xlsx"):
        with pytest.raises(BadWorkbookError, match="needs exactly one column 'label'"):
            score(tmp_path / name, tmp_path / "out.csv")


def test_two_language_columns_are_refused(score, tmp_path: Path):
    (tmp_path / "in.csv").write_text("label,language,LANGUAGE\na,en,en\n", encoding="utf-8")
    with pytest.raises(BadWorkbookError, match="exactly one column 'language', but has 2"):
        score(tmp_path / "in.csv", tmp_path / "out.csv")


def test_a_language_column_that_was_named_must_be_there(score, source: Path):
    with pytest.raises(BadWorkbookError, match="exactly one column 'tongue', but has 0"):
        score(source, source.with_name("out.csv"), Columns(language="tongue"))


def test_columns_can_be_named(score, model: FakeModel, tmp_path: Path):
    (tmp_path / "in.csv").write_text("field name;label;Tongue\nprénom;7;fr\n", encoding="utf-8")
    score(tmp_path / "in.csv", tmp_path / "out.csv", Columns("Field name", "tongue"))
    assert model.asked == [("prénom", "French")]
    assert read(tmp_path / "out.csv")[0] == ["Field name", "label", "tongue", "sensitive", "probability"]


@pytest.mark.parametrize("text", ["label,language\na,English\n,English\nb,English\n  ,English\n", "label\na\n\nb\n \n"])
def test_rows_without_a_label_are_named_before_a_model_is_asked(score, model: FakeModel, source: Path, text: str):
    source.write_text(text, encoding="utf-8")
    with pytest.raises(BadWorkbookError, match=r"column 'label': no label in rows? 3(, 5)?; type one"):
        score(source, source.with_name("out.csv"))
    assert not model.asked


def test_a_cell_of_a_workbook_without_a_label_is_named(score, tmp_path: Path):
    pd.DataFrame({"label": ["a", None], "note": ["x", "y"]}).to_excel(tmp_path / "a.xlsx", index=False)
    with pytest.raises(BadWorkbookError, match="no label in row 3"):
        score(tmp_path / "a.xlsx", tmp_path / "out.csv")


def test_labels_that_no_model_has_seen_are_named_with_what_is_wrong(score, model: FakeModel, source: Path):
    source.write_text("label\na\n" + "x" * 201 + "\n#REF!\n\nb\n", encoding="utf-8")
    with pytest.raises(BadWorkbookError, match="characters in row 3.*instead of a label in row 4.*no label in row 5"):
        score(source, source.with_name("out.csv"))
    assert not model.asked


@pytest.mark.parametrize(("line", "count"), [("a", 1), ("a,b,c,d", 4)])
def test_a_line_with_more_or_fewer_cells_than_the_header_is_named(score, source: Path, line: str, count: int):
    source.write_text(f"label,language,owner\na,en,me\n{line}\n", encoding="utf-8")
    with pytest.raises(BadWorkbookError, match=f"line 3 has {count} cells, the header 3"):
        score(source, source.with_name("out.csv"))


def test_a_pipe_or_a_folder_is_refused_and_not_waited_for(score, tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "folder.csv").mkdir()
    for name in ("pipe.csv", "folder.csv"):
        with pytest.raises(BadWorkbookError, match="is a folder, or no regular file; give a table"):
            score(tmp_path / name, tmp_path / "out.csv")


def test_a_refused_table_leaves_nothing_behind(score, source: Path):
    source.write_text("name\na\n", encoding="utf-8")
    with pytest.raises(BadWorkbookError):
        score(source, source.with_name("out.csv"))
    assert [path.name for path in source.parent.iterdir()] == [source.name]


@pytest.mark.parametrize("text", ["label\n", "label,language\n", "label\n\n\n"])
def test_a_table_without_rows_is_refused(score, tmp_path: Path, text: str):
    (tmp_path / "in.csv").write_text(text, encoding="utf-8")
    with pytest.raises(BadWorkbookError, match="has no rows below its header"):
        score(tmp_path / "in.csv", tmp_path / "out.csv")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiter_and_encoding_are_recognised(score, model: FakeModel, tmp_path: Path, delimiter: str, encoding: str):
    rows = [["n", "label", "language"], ["007", "prénom, nom; ici", "fr"], ["1e3", "NA", ""], ["", "null", "Klingon"]]
    with (tmp_path / "in.csv").open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    report = score(tmp_path / "in.csv", tmp_path / "out.csv")
    assert model.asked == [("prénom, nom; ici", "French"), ("NA", None), ("null", None)]
    assert [row[:3] for row in read(tmp_path / "out.csv")] == rows
    assert [row[3:] for row in read(tmp_path / "out.csv")][1:] == [
        ["no", "0.055556"],
        ["no", "0.25"],
        ["no", "0.166667"],
    ]
    assert report.answers == {"no": 3}
    assert report.unknown_languages == {"Klingon": 1}


@pytest.mark.parametrize("ending", ["csv", "xlsx", "parquet", "tsv"])
@pytest.mark.parametrize("kind", ["csv", "xlsx", "parquet"])
def test_every_column_is_kept_in_order_whatever_is_read_and_written(score, model, tmp_path: Path, ending, kind):
    table = pd.DataFrame(
        {"probability": ["high", "low"], "n": [1, 2], "Label": ["first name", "जन्म तिथि"], "sensitive": ["?", "!"]}
    )
    path = tmp_path / f"in.{ending}"
    if ending in ("csv", "tsv"):
        table.to_csv(path, index=False, sep="," if ending == "csv" else "\t")
    elif ending == "parquet":
        table.to_parquet(path)
    else:
        table.to_excel(path, index=False)
    score(path, tmp_path / f"out.{kind}")
    found = {"csv": pd.read_csv, "xlsx": read_excel, "parquet": pd.read_parquet}[kind](tmp_path / f"out.{kind}")
    assert list(found.columns) == ["given_probability", "n", "label", "given_sensitive", "sensitive", "probability"]
    assert found["label"].tolist() == table["Label"].tolist()
    assert found["n"].astype(int).tolist() == [1, 2]
    assert found["given_sensitive"].tolist() == ["?", "!"]
    assert found["sensitive"].tolist() == ["no", "yes"]


def test_a_table_that_was_scored_before_can_be_scored_again(score, model, source: Path):
    for number in range(3):
        score(source, source.with_name(f"out{number}.csv"))
        source = source.with_name(f"out{number}.csv")
    given = ["given_sensitive", "given_probability", "given_given_sensitive", "given_given_probability"]
    assert read(source)[0] == ["label", "language", *given, "sensitive", "probability"]


def test_an_ods_spreadsheet_is_scored(score, model: FakeModel, tmp_path: Path):
    rows = (
        "".join(f'<table:table-cell office:value-type="string"><text:p>{c}</text:p></table:table-cell>' for c in row)
        for row in (["label", "language"], ["prénom", "fr"])
    )
    cells = "".join(f"<table:table-row>{row}</table:table-row>" for row in rows)
    names = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text")
    )
    with zipfile.ZipFile(tmp_path / "in.ods", "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", "<manifest/>")
        archive.writestr(
            "content.xml",
            f"<office:document-content {names}><office:body><office:spreadsheet>"
            f'<table:table table:name="labels">{cells}</table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        )
    score(tmp_path / "in.ods", tmp_path / "out.csv")
    assert model.asked == [("prénom", "French")]


def test_a_spreadsheet_keeps_numbers_and_moments_and_makes_text_of_what_is_mixed(score, model, tmp_path: Path):
    moment = datetime(2024, 1, 31, 12, 30)  # noqa: DTZ001  a spreadsheet has no zones
    table = pd.DataFrame(
        {"label": ["a", 2023], "when": [moment, None], "mixed": ["x", 7], "share": [0.5, 2.0]}, dtype=object
    )
    table.to_excel(tmp_path / "in.xlsx", index=False)
    score(tmp_path / "in.xlsx", tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet").drop_columns(["probability"]).to_pylist()
    assert found == [
        {"label": "a", "when": moment, "mixed": "x", "share": 0.5, "sensitive": "yes"},
        {"label": "2023", "when": None, "mixed": "7", "share": 2.0, "sensitive": "no"},
    ]


def test_a_label_that_comes_again_is_asked_about_once(score, model: FakeModel, source: Path, monkeypatch):
    monkeypatch.setattr(table_copy, "ROWS_PER_PIECE", 10)
    rows = [f"label {n % 7},{'en' if n % 2 else 'English'}" for n in range(95)]
    source.write_text("label,language\n" + "\n".join(rows) + "\n", encoding="utf-8")
    report = score(source, source.with_name("out.csv"))
    assert model.asked == [(f"label {n}", "English") for n in range(7)]
    assert (report.num_rows, report.num_asked) == (95, 7)


def test_answers_at_hand_are_bounded(score, model: FakeModel, source: Path, monkeypatch):
    monkeypatch.setattr(table_copy, "ROWS_PER_PIECE", 10)
    monkeypatch.setattr(score_answers, "_MAX_KNOWN", 10)
    source.write_text("label\n" + "".join(f"label {n % 30}\n" for n in range(60)), encoding="utf-8")
    assert score(source, source.with_name("out.csv")).num_asked == 60


@pytest.fixture
def cut_off(score, model: FakeModel, source: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scoring that ended in its seventh piece of ten."""
    monkeypatch.setattr(table_copy, "ROWS_PER_PIECE", 10)
    monkeypatch.setattr(score_answers, "_MAX_KNOWN", 12)
    source.write_text("label\n" + "".join(f"label {n * n % 43}\n" for n in range(95)), encoding="utf-8")
    model.fails_at = 50
    with pytest.raises(KeyboardInterrupt):
        score(source, source.with_name("out.csv"))
    model.fails_at = 10**9
    return source


def test_what_was_answered_before_an_interruption_is_not_asked_again(
    score, cut_off: Path, model: FakeModel, monkeypatch
):
    assert sorted(path.name for path in cut_off.parent.iterdir()) == [".out.csv.unfinished", "labels.csv"]
    before = len(model.asked)
    report = score(cut_off, cut_off.with_name("out.csv"))
    assert report.num_kept >= 40
    assert report.num_asked == len(model.asked) - before
    whole = FakeModel()
    monkeypatch.setattr(score_table, "table_model", lambda _: nullcontext(whole))
    assert score(cut_off, cut_off.with_name("whole.csv")).num_asked < before + report.num_asked
    assert whole.asked[-report.num_asked :] == model.asked[before:]  # the same questions in the same company
    assert cut_off.with_name("out.csv").read_bytes() == cut_off.with_name("whole.csv").read_bytes()
    assert not list(cut_off.parent.glob(".*"))


def test_a_changed_table_starts_anew_and_says_so(score, cut_off: Path, model: FakeModel):
    cut_off.write_text(cut_off.read_text() + "one more\n", encoding="utf-8")
    report = score(cut_off, cut_off.with_name("out.csv"))
    assert (report.num_rows, report.num_kept) == (96, 0)
    assert "the table, or how it is read, has changed" in report.note


def test_another_model_starts_anew_and_says_so(score, cut_off: Path, model: FakeModel):
    model.identity = "b"
    report = score(cut_off, cut_off.with_name("out.csv"))
    assert report.num_kept == 0
    assert "the model is another one" in report.note


def test_a_target_that_another_process_writes_is_refused(score, cut_off: Path):
    folder = cut_off.with_name(".out.csv.unfinished")
    program = f"import fcntl, os; fcntl.flock(os.open({str(folder)!r}, 0), 2); print('locked', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(BadWorkbookError, match="another process is writing it"):
            score(cut_off, cut_off.with_name("out.csv"))
        other.communicate(b"\n")
    assert score(cut_off, cut_off.with_name("out.csv")).num_kept


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_a_cell_that_a_spreadsheet_would_run_is_neutralised(cell: str):
    assert neutralise(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["first-name", "", 3, 0.5, -1, None, True])
def test_any_other_cell_is_left_as_it_is(cell: object):
    assert neutralise(cell) == cell


@pytest.mark.parametrize("kind", [".csv", ".xlsx"])
def test_no_cell_and_no_name_of_a_column_is_written_as_a_formula(tmp_path: Path, kind: str):
    piece = pa.record_batch({"=cmd()": ["=1+1"], "list": [["=x", "bell\x07"]], "n": [float("nan")]})
    write_table(piece.schema, [piece], tmp_path / "out", kind)
    read_back = {".csv": pd.read_csv, ".xlsx": read_excel}[kind](tmp_path / "out", header=None)
    assert read_back.astype(object).where(read_back.notna(), None).to_numpy().tolist() == [
        ["'=cmd()", "list", "n"],
        ["'=1+1", '["=x", "bell\\u0007"]', None],
    ]


def test_a_moment_with_a_zone_is_text_in_a_workbook_that_knows_no_zones(tmp_path: Path):
    piece = pa.record_batch({"when": pa.array([datetime(2024, 1, 31, tzinfo=UTC)])})
    write_table(piece.schema, [piece], tmp_path / "out.xlsx", ".xlsx")
    assert read_excel(tmp_path / "out.xlsx")["when"].tolist() == ["2024-01-31 00:00:00+00:00"]


def test_a_character_no_xlsx_can_hold_is_replaced(tmp_path: Path):
    piece = pa.record_batch({"label": ["bell\x07"]})
    write_table(piece.schema, [piece], tmp_path / "out.xlsx", ".xlsx")
    assert read_excel(tmp_path / "out.xlsx")["label"].tolist() == ["bell\ufffd"]


def test_a_table_that_cannot_be_written_leaves_the_old_one(score, model, source: Path, monkeypatch):
    target = source.with_name("out.xlsx")
    target.write_bytes(b"old")
    monkeypatch.setattr("pii_finetune.score_output.neutralise", lambda cell: cell)
    source.write_text("label\nbell \x07\n", encoding="utf-8")
    with pytest.raises(IllegalCharacterError):
        score(source, target)
    assert target.read_bytes() == b"old"


def test_more_rows_than_a_sheet_holds_are_refused_before_a_model_is_loaded(score, source: Path, monkeypatch):
    monkeypatch.setattr(score_table, "MAX_XLSX_ROWS", 0)
    with pytest.raises(BadWorkbookError, match="1 rows are more than a sheet can hold"):
        score(source, source.with_name("out.xlsx"))
    assert [path.name for path in source.parent.iterdir()] == [source.name]


def test_a_model_that_leaves_answers_to_people_adds_their_decision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(score_table, "table_model", lambda _: nullcontext(FakeModel(has_review_band=True)))
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("label,decision\nname,theirs\ncolor,theirs\n")
    report = score_into(source, target, MODEL)
    found = pd.read_csv(target)
    assert list(found.columns) == ["label", "given_decision", "sensitive", "probability", "decision"]
    assert found["decision"].tolist() == ["review", "review"]
    assert report.answers == {"review": 2}
