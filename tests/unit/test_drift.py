import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook

from cli.main import main
from pii_finetune.drift import DataDrift, compare, drift_markdown, drift_table, visible
from pii_finetune.records import Record, fingerprint

ROWS = [
    Record("first name", "English", True, 2),
    Record("color", "English", False, 3),
    Record("nom", "French", True, 4),
    Record("couleur", "French", False, 5),
]
HOSTILE = [
    "a | b",
    "`code`",
    "<script>alert(1)</script>",
    "a\n| b | c |\n# heading",
    "[click](javascript:alert(1))",
    "![](https://example.com/a.png)",
    "**bold** ~~gone~~ _slanted_ \\",
    "&lt;b&gt; &#124;",
    "www.example.com",
]

# Few labels, so that rows repeat, change their answer and contradict each other.
records = st.builds(
    Record, st.sampled_from("abcd"), st.sampled_from(["English", "French", "Telugu"]), st.booleans(), st.integers(2, 99)
)
datasets = st.lists(records, max_size=30)


def content(rows: Iterable[Record]) -> Counter[tuple[str, str, bool]]:
    return Counter((r.label, r.language, r.sensitive) for r in rows)


@given(datasets, datasets)
def test_every_row_of_both_sides_is_accounted_for_once(old: list[Record], new: list[Record]):
    drift = compare(old, new)
    before, after = [e.old for e in drift.relabelled], [e.new for e in drift.relabelled]
    kept = content(old) - content([*drift.removed, *before])
    assert kept == content(new) - content([*drift.added, *after])
    assert kept.total() == drift.num_unchanged
    assert (drift.num_old, drift.num_new) == (len(old), len(new))
    assert all((o.label, o.language) == (n.label, n.language) for o, n in zip(before, after, strict=True))
    assert all(o.sensitive != n.sensitive for o, n in zip(before, after, strict=True))
    assert content(drift.added) & content(drift.removed) == Counter()
    assert sum(e.num_old for e in drift.languages) == len(old)
    assert sum(e.num_new for e in drift.languages) == len(new)
    assert len(drift_table(drift)) == len(drift.added) + len(drift.removed) + len(drift.relabelled)


@given(datasets, st.randoms())
def test_a_dataset_in_another_order_and_numbering_has_not_changed(rows: list[Record], rng):
    again = [Record(r.label, r.language, r.sensitive, r.row + 100) for r in rng.sample(rows, len(rows))]
    drift = compare(rows, again)
    assert (drift.added, drift.removed, drift.relabelled) == ((), (), ())
    assert drift.num_unchanged == len(rows)
    assert drift.language_shift == 0
    assert drift.fingerprints_equal
    assert drift_table(drift) == []


@given(datasets, datasets)
def test_swapping_the_sides_swaps_added_and_removed(old: list[Record], new: list[Record]):
    there, back = compare(old, new), compare(new, old)
    assert (there.added, there.removed) == (back.removed, back.added)
    assert {(e.old, e.new) for e in there.relabelled} == {(e.new, e.old) for e in back.relabelled}
    assert there.num_unchanged == back.num_unchanged
    assert there.language_shift == back.language_shift
    assert {e.language: e.shift for e in there.languages} == {e.language: -e.shift for e in back.languages}


@given(datasets, datasets)
def test_the_language_shift_lies_between_0_and_1(old: list[Record], new: list[Record]):
    drift = compare(old, new)
    assert 0 <= drift.language_shift <= 1
    if old and new:
        assert drift.language_shift == pytest.approx(sum(abs(e.shift) for e in drift.languages) / 2)


@given(datasets, datasets)
def test_the_fingerprints_are_equal_exactly_if_no_row_changed(old: list[Record], new: list[Record]):
    drift = compare(old, new)
    assert drift.fingerprints_equal == (drift_table(drift) == [])
    assert (drift.old_fingerprint, drift.new_fingerprint) == (fingerprint(old), fingerprint(new))


def test_rows_are_added_removed_relabelled_or_unchanged():
    new = [ROWS[0], Record("color", "English", True, 9), ROWS[2], Record("ville", "French", True, 6)]
    drift = compare(ROWS, new)
    assert drift.added == (new[3],)
    assert drift.removed == (ROWS[3],)
    assert [(e.old, e.new) for e in drift.relabelled] == [(ROWS[1], new[1])]
    assert drift.num_unchanged == 2
    assert (drift.old_sensitive_share, drift.new_sensitive_share) == (0.5, 1.0)
    assert drift.summary == "rows: 1 added, 1 removed, 1 relabelled, 2 unchanged"


def test_the_same_label_in_another_language_is_another_row():
    drift = compare([Record("nom", "French", True, 2)], [Record("nom", "Catalan", False, 2)])
    assert (len(drift.added), len(drift.removed), drift.relabelled) == (1, 1, ())


def test_of_rows_that_repeat_the_last_ones_went():
    twice = [ROWS[0], ROWS[1], Record("first name", "English", True, 9)]
    assert compare(twice, ROWS[:2]).removed == (twice[2],)
    assert compare(ROWS[:2], twice).added == (twice[2],)


def test_one_object_in_several_places_is_several_rows():
    drift = compare([ROWS[0]] * 3, [opposite(ROWS[0])])
    assert (len(drift.removed), len(drift.relabelled), drift.num_old) == (2, 1, 3)


def test_shares_of_languages_are_of_each_side_with_the_largest_shift_first():
    new = [*ROWS[:2], *(Record(f"పేరు {n}", "Telugu", True, n) for n in range(6))]
    drift = compare(ROWS, new)
    assert [(e.language, e.num_old, e.num_new, e.shift) for e in drift.languages] == [
        ("Telugu", 0, 6, 0.75),
        ("French", 2, 0, -0.5),
        ("English", 2, 2, -0.25),
    ]
    assert drift.language_shift == 0.75


def test_other_languages_altogether_are_a_shift_of_1_and_so_is_a_side_without_rows():
    assert compare(ROWS[:2], ROWS[2:]).language_shift == 1
    assert compare([], ROWS).language_shift == compare(ROWS, []).language_shift == 1
    assert compare([], []).language_shift == 0


def test_the_table_holds_every_change_and_is_json():
    new = [Record("color", "English", True, 9), *(Record(f"ville {n}", "French", True, n) for n in range(50))]
    rows = drift_table(compare(ROWS[:2], new))
    assert json.loads(json.dumps(rows)) == rows
    assert Counter(row["change"] for row in rows) == {"added": 50, "removed": 1, "relabelled": 1}
    assert rows[0] == {
        "change": "added",
        "label": "ville 0",
        "language": "French",
        "old_sensitive": None,
        "new_sensitive": "yes",
        "old_row": None,
        "new_row": 0,
    }
    assert rows[-1] == {
        "change": "relabelled",
        "label": "color",
        "language": "English",
        "old_sensitive": "no",
        "new_sensitive": "yes",
        "old_row": 3,
        "new_row": 9,
    }


def test_the_page_shows_the_first_20_rows_of_each_kind_and_counts_the_rest():
    old = [Record(f"old {n}", "English", True, n) for n in range(25)]
    new = [Record(f"new {n}", "English", True, n) for n in range(23)]
    flipped = [Record(f"flip {n}", "English", n < 22, n) for n in range(22)]
    page = drift_markdown(compare([*old, *flipped], [*new, *(Record(r.label, "English", False, 1) for r in flipped)]))
    for kind, total in (("old", 25), ("new", 23), ("flip", 22)):
        assert len(re.findall(rf"^\| {kind} \d+ \|", page, re.MULTILINE)) == 20
        assert f"and {total - 20} more" in page
    assert "## Removed: 25" in page


def test_the_page_says_the_same_rows_in_one_line_and_shows_no_table():
    page = drift_markdown(compare(ROWS, ROWS[::-1]))
    assert "The same rows (4)" in page
    assert fingerprint(ROWS) in page
    assert "|" not in page
    assert "##" not in page


@pytest.mark.parametrize("label", HOSTILE)
@pytest.mark.parametrize("change", [lambda r: ([], [r]), lambda r: ([r], []), lambda r: ([r], [opposite(r)])])
def test_a_label_never_becomes_markdown_or_html(change: Callable[[Record], Sequence[list[Record]]], label: str):
    hostile, plain = (compare(*change(Record(text, text, True, 2))) for text in (label, "plain"))
    page, model = (drift_markdown(drift).splitlines() for drift in (hostile, plain))
    assert [row.count("|") for row in page] == [row.count("|") for row in model]
    for line, like in zip(page, model, strict=True):
        if "plain" in like:
            cells = re.sub(r"&#\d+;", "", line)
            assert not re.search(r"[`<>\[\]\\*~!&]|https?:|www\.|_\w+_", cells.replace("[U+000A]", ""))


def opposite(record: Record) -> Record:
    return Record(record.label, record.language, not record.sensitive, record.row)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_label_is_one_cell_that_shows_it(label: str):
    import html

    page = drift_markdown(compare([], [Record(label, "English", True, 7)]))
    line = next(line for line in page.split("\n") if line.endswith("| English | yes | 7 |"))
    assert html.unescape(line.removeprefix("| ").removesuffix(" | English | yes | 7 |")) == visible(label)
    assert visible(label).isprintable() or any(joiner in label for joiner in "\u200c\u200d")


def test_what_cannot_be_seen_is_shown_as_its_code_point():
    assert visible("a\nb\x1b[2J\u202ec\u2028") == "a[U+000A]b[U+001B][2J[U+202E]c[U+2028]"
    assert visible("पहला नाम, ක්\u200dෂ") == "पहला नाम, ක්\u200dෂ"


def test_ordinary_labels_read_the_same_in_the_source_of_the_page():
    page = drift_markdown(compare([], [Record("first_name of-kin 2", "English", True, 2)]))
    assert "| first_name of-kin 2 |" in page
    assert "| English | 0 | 1 | 0.0% | 100.0% | +100.0 |" in page


def test_comparing_takes_time_in_proportion_to_the_rows():
    old = [Record(f"label {n}", "English", n % 2 == 0, n) for n in range(100_000)]
    for new in (
        [opposite(r) for r in old],
        [Record(f"new {r.label}", "French", True, r.row) for r in old],
        old[:1] * 100_000,
    ):
        started = time.perf_counter()
        drift = compare(old, new)
        drift_table(drift)
        drift_markdown(drift)
        assert time.perf_counter() - started < 10  # a third of a second; the square of it would be minutes


def test_comparing_needs_no_heavy_library():
    heavy = {"torch", "transformers", "mlflow", "great_expectations", "pandas", "prefect"}
    code = f"import sys, pii_finetune.drift; print(*{heavy!r} & sys.modules.keys())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


Row = tuple[str, str, str]
BASE: list[Row] = [(f"a {n}", "te", "no" if n % 2 else "yes") for n in range(30)]


def book(path: Path, rows: Sequence[Row]) -> str:
    workbook = Workbook()
    for row in [("label", "language", "sensitive"), *rows]:
        workbook.worksheets[0].append(row)
    workbook.save(path)
    return str(path)


def test_validate_against_an_older_workbook_shows_what_changed(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    old = book(tmp_path / "old.xlsx", BASE)
    new = book(tmp_path / "new.xlsx", [("a 0", "te", "no"), *BASE[2:], ("prénom", "fr", "yes")])
    assert main(["validate", new, "--against", old]) == 0
    shown = capsys.readouterr().out
    assert shown.index("valid: all") < shown.index("old fingerprint") < shown.index("new fingerprint")
    assert "rows: 1 added, 1 removed, 1 relabelled, 28 unchanged" in shown
    assert len(set(re.findall(r"[0-9a-f]{64}", shown))) == 2
    assert re.search(r"added\W+prénom\W+French\W+yes\W+31\b", shown)
    assert re.search(r"removed\W+a 1\W+Telugu\W+no\W+3\b", shown)
    assert re.search(r"relabelled\W+a 0\W+Telugu\W+yes -> no\W+2 -> 2\b", shown)


def test_a_workbook_in_another_order_with_duplicates_is_said_to_hold_the_same_rows(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    old = book(tmp_path / "old.xlsx", BASE)
    new = book(tmp_path / "new.xlsx", [*[(f" {label} ", "Telugu", answer) for label, _, answer in BASE[::-1]], BASE[3]])
    assert main(["validate", new, "--against", old]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[-1].startswith("the same rows (30)")
    assert len(set(re.findall(r"[0-9a-f]{64}", shown))) == 1


def test_rich_markup_in_a_label_is_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    old = book(tmp_path / "old.xlsx", BASE)
    labels = ["[red]x[/red]", "[/]", ":smile:", "[link=file:///]y", "\\[b]"]
    new = book(tmp_path / "new.xlsx", [*BASE, *((label, "en", "no") for label in labels)])
    assert main(["validate", new, "--against", old]) == 0
    shown = capsys.readouterr().out
    assert all(label in shown for label in labels)


def test_the_rows_not_shown_are_counted(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    old = book(tmp_path / "old.xlsx", BASE)
    new = book(tmp_path / "new.xlsx", [*BASE, *((f"b {n}", "en", "no") for n in range(27))])
    assert main(["validate", new, "--against", old]) == 0
    shown = capsys.readouterr().out
    assert "not shown: 7 added" in shown
    assert "b 19" in shown
    assert "b 20" not in shown


def test_an_old_workbook_that_cannot_be_used_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    new = book(tmp_path / "new.xlsx", BASE)
    bad = book(tmp_path / "bad.xlsx", [*BASE, ("b", "Klingon", "no")])
    (tmp_path / "text.xlsx").write_text("none", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for name, reason in (
        (bad, "column 'language', row 32 ('Klingon'): the language is not known"),
        (str(tmp_path / "text.xlsx"), "cannot be read as an .xlsx workbook"),
        (str(tmp_path / "none.xlsx"), "there is no such file"),
        (str(tmp_path / "empty"), "holds no table"),
    ):
        assert main(["validate", new, "--against", name]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"pii-finetune: --against: the old workbook cannot be used; {name}")
        assert reason in error
        assert "Traceback" not in error


def test_a_new_workbook_that_is_invalid_is_refused_before_the_old_one_is_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    bad = book(tmp_path / "bad.xlsx", [*BASE, ("b", "Klingon", "no")])
    assert main(["validate", bad, "--against", str(tmp_path / "none.xlsx")]) == 2
    error = capsys.readouterr().err
    assert bad in error
    assert "--against" not in error


def test_what_is_compared_is_frozen():
    drift = compare(ROWS, ROWS)
    assert isinstance(drift, DataDrift)
    with pytest.raises(AttributeError):
        drift.num_unchanged = 3  # pyright: ignore[reportAttributeAccessIssue]
