import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from openpyxl import load_workbook

from cli.main import main
from pii_finetune import ai4privacy
from pii_finetune.ai4privacy import Harvest, choose, harvest
from pii_finetune.ai4privacy_classes import class_forms, class_name
from pii_finetune.ai4privacy_rows import Span, UnusableRowError, parse_row, read_rows
from pii_finetune.errors import UserError
from pii_finetune.labels import fold_label
from pii_finetune.profiles import embedded
from pii_finetune.splits import split
from pii_finetune.validation import validate
from pii_finetune.workbook import read_workbook
from pii_finetune.workbook_writer import write_rows


def make_row(text: str, *spans: tuple[str, str], language: str = "en", **fields: Any) -> dict[str, Any]:
    """Return a row whose spans are given as (value, class)."""
    mask = [
        {"value": value, "start": text.index(value), "end": text.index(value) + len(value), "label": name}
        for value, name in spans
    ]
    return {"source_text": text, "language": language, "privacy_mask": mask} | fields


def take(*rows: object) -> Harvest:
    return harvest(((f"line {number}", row) for number, row in enumerate(rows, start=1)), "rows")


def labels(found: Harvest, answer: str, language: str = "English", min_count: int = 1, ratio: float = 50) -> set[str]:
    rows = choose(found, min_count, ratio).rows
    return {label for label, its_language, its_answer in rows if (its_language, its_answer) == (language, answer)}


ANNA = make_row("Today Anna is travelling", ("Anna", "FIRSTNAME_1"))


# One row


@pytest.mark.parametrize("mask", [json.dumps(ANNA["privacy_mask"]), str(ANNA["privacy_mask"]), ANNA["privacy_mask"]])
def test_a_mask_is_read_as_a_list_as_json_and_as_python_writes_it(mask: object):
    assert parse_row(ANNA | {"privacy_mask": mask}).spans == (Span("FIRSTNAME", "Anna", 6, 10),)


@pytest.mark.parametrize("name", ["source_text", "unmasked_text", "text"])
def test_the_text_is_found_under_the_name_of_each_release(name: str):
    row = {key: value for key, value in ANNA.items() if key != "source_text"} | {name: "Anna is here"}
    assert parse_row(row).text == "Anna is here"


@pytest.mark.parametrize(("given", "language"), [("de", "German"), ("German", "German"), ("en-GB", "English")])
def test_a_language_is_a_code_a_name_or_a_locale(given: str, language: str):
    assert parse_row(ANNA | {"language": given}).language == language


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"privacy_mask": None}, "no privacy_mask"),
        ({"privacy_mask": "[{'value': "}, "unreadable privacy_mask"),
        ({"privacy_mask": "[" * 100_000}, "unreadable privacy_mask"),
        ({"privacy_mask": "__import__('os')"}, "unreadable privacy_mask"),
        ({"privacy_mask": {"value": "Anna"}}, "unreadable privacy_mask"),
        ({"privacy_mask": [{"value": "Anna"}]}, "unreadable privacy_mask"),
        ({"privacy_mask": [{"value": "Anna", "label": "=HYPERLINK()"}]}, "unreadable privacy_mask"),
        ({"language": "Klingon"}, "unknown language"),
        ({"language": None}, "no language"),
        ({"source_text": " "}, "no text"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(change: dict[str, object], reason: str):
    with pytest.raises(UnusableRowError, match=f"^{reason}$"):
        parse_row(ANNA | change)


@pytest.mark.parametrize("offsets", [(0, 4), (90, 94), (None, None), ("x", -3), ("9" * 5000, 1)])
def test_offsets_that_are_wrong_are_found_again_in_the_text(offsets: tuple[object, object]):
    mask = [{"value": "Anna", "start": offsets[0], "end": offsets[1], "label": "FIRSTNAME"}]
    row = ANNA | {"privacy_mask": mask}
    assert parse_row(row).spans == (Span("FIRSTNAME", "Anna", 6, 10, corrected=True),)
    assert take(row).num_corrected == 1


def test_a_value_is_found_again_as_a_word_and_where_it_is_nearest():
    text = "Map of M and M"
    mask = [{"value": "M", "start": 12, "end": 13, "label": "SEX"}]
    assert parse_row(make_row(text) | {"privacy_mask": mask}).spans[0].start == 13
    assert parse_row(make_row(text) | {"privacy_mask": [mask[0] | {"start": 1}]}).spans[0].start == 7


def test_a_span_that_is_not_in_the_text_is_counted_and_its_class_is_seen():
    row = make_row("Nothing to see") | {"privacy_mask": [{"value": "Berta", "start": 0, "end": 5, "label": "SURNAME"}]}
    found = take(row)
    assert (found.num_not_found, found.num_corrected) == (1, 0)
    assert labels(found, "yes") == {"SURNAME", "surname"}


# Classes


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("FIRSTNAME_12", "FIRSTNAME"),
        ("LASTNAME1", "LASTNAME"),
        ("IPV4", "IPV4"),
        ("IPV4_2", "IPV4"),
        ("ZONE9", "ZONE9"),
    ],
)
def test_the_number_of_a_span_is_no_part_of_its_class(label: str, name: str):
    assert class_name(label) == name


def test_a_known_class_is_written_in_words_too_and_an_unknown_one_as_it_is():
    assert class_forms("FIRSTNAME") == ("FIRSTNAME", "first name")
    assert class_forms("TELEPHONENUM") == ("TELEPHONENUM", "telephone number")
    assert class_forms("SHOESIZE") == ("SHOESIZE",)


def test_a_class_is_a_label_in_each_language_that_it_occurs_in():
    found = take(ANNA, make_row("Heute kommt Berta vorbei", ("Berta", "GIVENNAME"), language="de"))
    assert labels(found, "yes", "English") == {"FIRSTNAME", "first name"}
    assert labels(found, "yes", "German") == {"GIVENNAME", "given name"}


# Words before a colon


@pytest.mark.parametrize(
    ("text", "language", "label"),
    [
        ("Telefonnummer: 0123", "de", "Telefonnummer"),
        ("Danke. Ihre E-Mail: 0123", "de", "Ihre E-Mail"),
        ("- **Numéro de téléphone :** 0123", "fr", "Numéro de téléphone"),
        ("Bitte prüfen:\nHandy privat:\n0123", "de", "Handy privat"),
        ("फ़ोन नंबर: 0123", "hi", "फ़ोन नंबर"),
        ("ఫోన్ నంబర్: 0123", "te", "ఫోన్ నంబర్"),
    ],
)
def test_up_to_four_words_before_a_colon_and_a_span_are_a_sensitive_label(text: str, language: str, label: str):
    row = parse_row(make_row(text, ("0123", "TEL"), language=language))
    found = take(make_row(text, ("0123", "TEL"), language=language))
    assert found.languages[row.language].introductions == {label}


@pytest.mark.parametrize(
    "text",
    [
        "You can reach me at this number: 0123",
        "Call 0123",
        "Number: call 0123",
        "my very own private e-mail address: 0123",
    ],
)
def test_a_sentence_before_a_span_is_no_label(text: str):
    assert take(make_row(text, ("0123", "TEL"))).languages["English"].introductions == set()


def test_words_of_another_span_are_no_part_of_a_label():
    row = make_row("Anna phone: 0123", ("Anna", "FIRSTNAME"), ("0123", "TEL"))
    assert take(row).languages["English"].introductions == {"phone"}


def test_a_value_before_a_colon_is_no_label():
    found = take(ANNA, make_row("Anna: 0123", ("0123", "TEL")))
    assert "Anna" not in labels(found, "yes") | labels(found, "no")
    assert choose(found, 1, 1.0).num_values == 1


# Words that are not sensitive


def test_words_in_or_before_a_span_anywhere_are_never_negatives():
    found = take(
        make_row("The invoice for Anna Weather was late", ("Anna Weather", "FULLNAME")),
        make_row("Fine weather for an invoice, Anna thought"),
    )
    negatives = labels(found, "no")
    assert {"invoice", "late", "fine", "was late"} <= negatives
    assert {"for", "weather", "anna", "fine weather", "invoice for", "weather for"} & negatives == set()


def test_negatives_are_words_and_pairs_of_letters_only():
    found = take(ANNA, make_row("Go to room101 or www.example.org, e-mail\nlater on it " + "x" * 31))
    negatives = labels(found, "no")
    assert {"later", "later on"} <= negatives
    assert {"go", "to", "room", "www", "mail", "e-mail", "mail later", "x" * 31} & negatives == set()


def test_a_word_that_goes_on_after_a_span_is_not_cut():
    found = take(make_row("Annabelle and others", ("Anna", "FIRSTNAME")))
    assert labels(found, "no") == {"and", "others", "and others"}


def test_words_keep_their_vowel_signs():
    found = take(make_row("आज मौसम अच्छा है", language="hi"), make_row("नाम: 0123", ("0123", "TEL"), language="hi"))
    assert "मौसम" in labels(found, "no", "Hindi")


def test_negatives_are_the_most_frequent_and_as_many_as_asked():
    rows = [make_row("Rain, wind."), make_row("Rain, wind."), make_row("Rain, snow."), ANNA]
    assert labels(take(*rows), "no", ratio=0.5) == {"rain"}
    assert labels(take(*rows), "no", ratio=1) == {"rain", "wind"}
    assert labels(take(*rows), "no", min_count=3) == {"rain"}


def test_a_word_that_is_sensitive_somewhere_is_sensitive_and_counted():
    rows = [ANNA, make_row("Emails, emails, email address, rain"), make_row("EMAIL: a@b.c", ("a@b.c", "EMAIL"))]
    choice = choose(take(*rows), 1, 50)
    assert "rain" in {label for label, _, answer in choice.rows if answer == "no"}
    assert not any("email" in label for label, _, answer in choice.rows if answer == "no")
    assert choice.num_conflicts > 0


def test_the_order_of_the_rows_changes_nothing():
    rows = sample()
    assert choose(take(*rows), 2, 1.0) == choose(take(*reversed(rows)), 2, 1.0)


def test_counts_stay_bounded_and_keep_what_is_frequent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ai4privacy, "_MAX_COUNTED", 20)
    found = take(ANNA, *[make_row(f"rain. {chr(97 + n) * 5}. {chr(97 + n) * 6}") for n in range(26)])
    assert len(found.languages["English"].counts) <= 20
    assert found.languages["English"].counts["rain"] == 26


def test_rows_of_one_answer_only_are_refused():
    with pytest.raises(UserError, match="2 sensitive and 0 other labels, and both are needed"):
        choose(take(make_row("Anna", ("Anna", "FIRSTNAME"))), 1, 1.0)


# Bad rows and sources


def test_bad_rows_are_counted_by_reason_and_the_first_are_named():
    found = take(ANNA, None, *[ANNA | {"language": "Klingon"}] * 9)
    assert found.num_rows == 11
    assert found.bad_rows == {"not a JSON object": 1, "unknown language": 9}
    assert found.first_bad[:2] == ["line 2: not a JSON object", "line 3: unknown language"]
    assert len(found.first_bad) == 5


def test_rows_of_another_format_are_refused_with_the_fields_they_have():
    with pytest.raises(UserError, match=r"none of 2 rows can be used \(fields found: 'tokens', 'tags'\)"):
        take({"tokens": [], "tags": []}, {"tokens": []})
    with pytest.raises(UserError, match="rows: has no rows"):
        take()


def test_a_folder_is_read_file_by_file_and_a_broken_line_costs_one_row(tmp_path: Path):
    (tmp_path / "b.jsonl").write_bytes(b'\n{"a": 1}\n{"a": \n"\xff"\n')
    (tmp_path / "notes.txt").write_text("no rows")
    pq.write_table(pa.Table.from_pylist([ANNA]), tmp_path / "a.parquet")
    rows = list(read_rows(str(tmp_path)))
    assert rows[1:] == [("b.jsonl, line 2", {"a": 1}), ("b.jsonl, line 3", None), ("b.jsonl, line 4", None)]
    assert rows[0][0] == "a.parquet, row 1"
    assert parse_row(rows[0][1]) == parse_row(ANNA)


def test_rows_are_read_one_at_a_time(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n' * 3)
    rows = read_rows(str(tmp_path / "a.jsonl"))
    assert isinstance(rows, Iterator)
    assert next(rows) == ("a.jsonl, line 1", {"a": 1})


def test_a_source_that_cannot_be_read_is_refused_with_a_remedy(tmp_path: Path):
    (tmp_path / "a.csv").touch()
    (tmp_path / "broken.parquet").write_bytes(b"PAR0")
    (tmp_path / "empty").mkdir()
    for source, message in {
        tmp_path / "none.jsonl": "there is no such file or folder",
        tmp_path / "a.csv": "the ending must be .jsonl or .parquet",
        tmp_path / "broken.parquet": "cannot be read as parquet",
        tmp_path / "empty": "the folder has no .jsonl or .parquet file",
    }.items():
        with pytest.raises(UserError, match=message):
            list(read_rows(str(source)))


def test_a_hub_id_is_streamed_and_a_hub_out_of_reach_is_told_plainly(monkeypatch: pytest.MonkeyPatch):
    asked: list[object] = []

    def load(name: str, **options: object) -> Iterator[object]:
        asked.append((name, options))
        yield ANNA
        raise ConnectionError("Max retries exceeded with url")

    monkeypatch.setattr(datasets, "load_dataset", load)
    rows = read_rows("owner/name")
    assert next(rows) == ("owner/name, row 1", ANNA)
    assert asked == [("owner/name", {"split": "train", "streaming": True})]
    with pytest.raises(
        UserError, match=r"could not be loaded from the Hugging Face hub \(ConnectionError: Max retries.*check"
    ):
        next(rows)


# The workbook


def sample() -> list[dict[str, Any]]:
    """Return rows of two languages, enough to train, validate and test on."""
    names = ["FIRSTNAME", "SURNAME", "CITY", "STREET", "EMAIL", "DOB", "IBAN", "SSN", "PHONENUMBER", "AGE", "GENDER"]
    english = "The meeting starts soon because everyone wants lunch while music plays outside under green trees. "
    german = "Die Sitzung beginnt bald, weil alle essen wollen, während draußen Musik unter grünen Bäumen spielt. "
    return [
        make_row(f"{text}{label} {name.lower()}: {at:04d}-x", (f"{at:04d}-x", f"{name}_1"), language=language)
        for text, label, language in ((english, "Your", "en"), (german, "Ihr", "German"))
        for at, name in enumerate(names)
    ]


def write_source(folder: Path, *more: object) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (*sample(), *more)), encoding="utf-8")
    return path


def test_the_workbook_is_valid_balanced_and_can_be_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source, target = write_source(tmp_path, {"language": "en"}, ANNA | {"source_text": "Anna"}), tmp_path / "out.xlsx"
    assert main(["data", "from-ai4privacy", str(source), "--out", str(target)]) == 0
    config = embedded().data.model_copy(update={"workbook": str(target)})
    records = validate(read_workbook(config), None).require_valid().records
    split(records, config)
    sensitive = {fold_label(r.label) for r in records if r.sensitive}
    assert {r.language for r in records} == {"English", "German"}
    assert sensitive.isdisjoint(fold_label(r.label) for r in records if not r.sensitive)
    assert sum(not r.sensitive for r in records) > 0.7 * sum(r.sensitive for r in records)
    shown = capsys.readouterr().out
    assert "24 rows read, 23 used, 1 skipped" in shown
    assert "rows.jsonl, line 23: no text" in shown
    assert "23 spans; offsets corrected: 1; spans not found: 0" in shown


def test_cells_that_start_like_formulas_are_text(tmp_path: Path):
    starts = ["=1+1", "+1", "-1", "@a", "#N/A"]
    write_rows([(start, "English", "no") for start in starts], tmp_path / "a.xlsx")
    cells = load_workbook(tmp_path / "a.xlsx").worksheets[0]["A"]
    assert [(cell.value, cell.data_type) for cell in cells[1:]] == [(start, "s") for start in starts]


def test_a_failed_run_leaves_the_workbook_before_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    source, target = write_source(tmp_path), tmp_path / "out.xlsx"
    target.write_text("before")
    monkeypatch.setattr("openpyxl.Workbook.save", fail)
    assert main(["data", "from-ai4privacy", str(source), "--out", str(target)]) == 2
    assert "cannot be written (No space left on device)" in capsys.readouterr().err
    assert target.read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.xlsx", "rows.jsonl"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "out.csv"], "--out out.csv: the ending must be .xlsx"),
        (["--out", "none/out.xlsx"], "there is no folder none"),
        (["--out", "out.xlsx", "--min-count", "0"], "--min-count 0: must be at least 1"),
        (["--out", "out.xlsx", "--negatives-per-positive", "nan"], "--negatives-per-positive nan: must be above 0"),
    ],
)
def test_a_bad_option_is_refused_before_anything_is_read(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "from-ai4privacy", "none.jsonl", *options]) == 2
    assert message in capsys.readouterr().err
