"""`data.languages`: the same rows for who validates, who watches and who trains."""

import pandas as pd
import pytest

from cli.main import main
from make_data.workbook import write_workbook
from pii_finetune.config import DataConfig
from pii_finetune.dataset_watch import has_other_rows, read_rows
from pii_finetune.errors import BadConfigError, BadWorkbookError
from pii_finetune.language_choice import choose_rows
from pii_finetune.overrides import apply_overrides, parse_assignments
from pii_finetune.profiles import embedded
from pii_finetune.records import fingerprint
from pii_finetune.stage_keys import validation_key
from pii_finetune.validation import validate
from pii_finetune.workbook import read_workbook


def rows_in(language, num, prefix="label"):
    return [(f"{prefix} {language} {n}", language, "yes" if n % 2 else "no", "made up") for n in range(num)]


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "labels.xlsx"
    # French as people write it, and between other rows: numbers of rows must stay those of the sheet
    french = rows_in("French", 30)
    mixed = [(label, ("fr", "Français", "French")[at % 3], *rest) for at, (label, _, *rest) in enumerate(french)]
    write_workbook([*rows_in("German", 40), *mixed, *rows_in("English", 25)], path)
    return path


def config(path, **changes):
    return apply_overrides(embedded(), {"data.workbook": str(path), **{f"data.{k}": v for k, v in changes.items()}})


def read(path, languages, **changes):
    return read_rows(config(path, languages=languages, **changes))


def test_only_rows_of_these_languages_are_used_and_the_others_are_counted(book):
    report = read(book, ["French", "English"])
    everything = read(book, None)
    assert report.records == tuple(r for r in everything.records if r.language != "German")
    assert report.fingerprint == fingerprint(report.records) != everything.fingerprint
    assert report.notes == ("40 rows of other languages left out, as data.languages says",)
    assert report.records[0].row == 42
    assert everything.notes == ()
    assert read(book, ["French", "English", "German"]).notes == ()


@pytest.mark.parametrize("spelled", ["fr", "French", ["FRENCH"], "français, fr", ["fr", "fra"]])
def test_a_language_is_named_as_in_a_workbook_and_is_one_setting_however_it_is_spelled(book, spelled):
    assert config(book, languages=spelled).data.languages == ["French"]
    assert len(read(book, spelled).records) == 30


def test_languages_are_a_set_and_survive_the_command_line():
    given = parse_assignments(["data.languages=fr,de"]), parse_assignments(['data.languages=["German", "fr"]'])
    assert [apply_overrides(embedded(), each).data.languages for each in given] == [["French", "German"]] * 2


@pytest.mark.parametrize(
    ("languages", "told"),
    [
        (["Frensh"], "'Frensh' is not a language that is known; .* did you mean French?"),
        (["fr", "xx"], "'xx' is not a language that is known; write its English name or two-letter code"),
        ([], "names no language; name some, or set data.languages=null for all"),
        ("", "'' is not a language that is known"),
    ],
)
def test_what_is_no_language_is_refused(languages, told):
    with pytest.raises(BadConfigError, match=rf"^data\.languages = .*: {told}"):
        apply_overrides(embedded(), {"data.languages": languages})


def test_a_language_that_no_row_has_is_refused_with_those_there_are(book):
    there = r"German \(40\), French \(30\), English \(25\)"
    with pytest.raises(BadWorkbookError, match=rf"labels.xlsx.*no row is in Dutch.*: {there}; name some of these"):
        read(book, ["French", "Dutch"])
    with pytest.raises(BadWorkbookError, match="no row is in Dutch or Hindi"):
        read(book, ["Hindi", "Dutch"])


def test_faults_in_other_languages_stop_nothing_and_those_that_may_be_of_these_do(tmp_path):
    path = tmp_path / "labels.xlsx"
    german = [("x", "German", "perhaps", ""), ("y", "German", "yes", ""), ("y", "de", "no", "")]
    write_workbook([*rows_in("French", 30), *german], path)
    assert len(read(path, ["French"]).records) == 30
    with pytest.raises(BadWorkbookError, match="row 32"):
        read(path, None)
    write_workbook([*rows_in("French", 30), ("x", "Frensh", "yes", ""), ("z", "", "yes", "")], path)
    with pytest.raises(BadWorkbookError, match=r"row 32 \('Frensh'\): the language is not known") as told:
        read(path, ["French"])
    assert "row 33: the language is empty" in str(told.value)


def test_the_rows_that_are_judged_are_those_that_are_used(tmp_path):
    path = tmp_path / "labels.xlsx"
    write_workbook([*rows_in("German", 40), *rows_in("French", 10)], path)
    with pytest.raises(BadWorkbookError, match="10 rows were given: too few"):
        read(path, ["French"])


def test_a_folder_names_the_rows_of_its_files(tmp_path):
    folder = tmp_path / "tables"
    folder.mkdir()
    for name, rows in (
        ("a.xlsx", rows_in("German", 30)),
        ("b.xlsx", [*rows_in("German", 5, "other"), *rows_in("French", 30)]),
    ):
        write_workbook(rows, folder / name)
    report = read(folder, ["French"])
    assert (report.records[0].row, report.notes) == (
        "7 of b.xlsx",
        ("35 rows of other languages left out, as data.languages says",),
    )


def test_a_change_of_other_rows_is_no_change_to_who_watches(book, tmp_path):
    watched = config(book, languages=["French"])
    before = read_rows(watched).fingerprint
    changed = [*rows_in("German", 12, "new"), *rows_in("French", 30)]
    write_workbook(changed, book)
    assert not has_other_rows(watched, before, None)
    write_workbook(changed[:-1], book)
    assert has_other_rows(watched, before, None)


def test_the_verdict_on_rows_is_kept_whatever_rows_stand_beside_them_and_whatever_the_models_are_called(book):
    french, everything = config(book, languages=["French"]), config(book)
    keys = [validation_key(each, read_workbook(each.data)) for each in (french, everything)]
    assert keys[0] != keys[1]
    called = french.model_copy(update={"variant": "fr"})
    assert validation_key(called, read_workbook(called.data)) == keys[0]


def test_the_command_line_validates_the_rows_a_run_uses(book, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["validate", str(book), "--set", "data.languages=fr"]) == 0
    shown = capsys.readouterr().out
    assert "30 rows, 30 used" in shown
    assert "65 rows of other languages left out, as data.languages says" in shown
    assert read(book, ["fr"]).fingerprint in shown
    assert main(["validate", str(book), "--set", "data.languages=nl"]) == 2
    assert "no row is in Dutch" in capsys.readouterr().err


def test_cells_that_are_not_what_they_show_are_judged_too():
    rows = pd.DataFrame(
        {
            "row": [2, 3, 4, 5],
            "language": ["fr", "German", "German", None],
            "language_kind": ["text", "text", "formula", "empty"],
        },
        dtype=object,
    )
    kept, _ = choose_rows(rows, ["French"], "book")
    assert list(kept["row"]) == [2, 4, 5]


def test_a_table_without_other_rows_is_read_as_ever(book):
    data = DataConfig(workbook=str(book), validation_fraction=0.1, test_fraction=0.2, seed=0)
    every = data.model_copy(update={"languages": ["English", "French", "German"]})
    assert validate(read_workbook(data), None) == validate(read_workbook(every), None)
