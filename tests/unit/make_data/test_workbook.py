from collections import Counter
from pathlib import Path

import pytest
from python_calamine import CalamineWorkbook

from make_data.glossary import GLOSSARY, LANGUAGE_OF, UNSEEN_GLOSSARY, read_glossary
from make_data.workbook import (
    HEADER,
    UNSEEN_WORKBOOK,
    WORKBOOK,
    Row,
    build_rows,
    build_unseen_rows,
    write_workbook,
)
from pii_finetune.labels import fold_label, spell_out

CONCEPTS = read_glossary(GLOSSARY)
UNSEEN = read_glossary(UNSEEN_GLOSSARY)
ROWS = build_rows(CONCEPTS)


def read(path: Path) -> list[Row]:
    header, *rows = CalamineWorkbook.from_path(path).get_sheet_by_index(0).to_python()
    assert tuple(header) == HEADER
    return [tuple(map(str, row)) for row in rows]


def test_the_workbook_is_what_the_command_builds():
    assert read(WORKBOOK) == ROWS


def test_the_workbook_of_unseen_concepts_is_what_the_command_builds():
    assert read(UNSEEN_WORKBOOK) == build_unseen_rows(UNSEEN, ROWS)


def test_the_workbook_has_the_size_and_the_languages_asked_for():
    assert 3000 <= len(ROWS) <= 5000
    assert {language for _, language, *_ in ROWS} == set(LANGUAGE_OF.values())


def test_every_unseen_concept_is_asked_in_every_language():
    assert Counter(language for _, language, *_ in read(UNSEEN_WORKBOOK)) == dict.fromkeys(
        LANGUAGE_OF.values(), len(UNSEEN)
    )


def test_no_label_stands_twice_in_a_language():
    assert len({(label, language) for label, language, *_ in ROWS}) == len(ROWS)


def test_a_change_to_one_concept_leaves_the_rows_of_all_others():
    assert set(build_rows(CONCEPTS[1:])) <= set(ROWS)


def test_an_unseen_label_in_the_workbook_is_refused_by_name():
    with pytest.raises(ValueError, match="labels of unseen concepts are in the workbook"):
        build_unseen_rows(CONCEPTS[:1], ROWS)


def test_an_unseen_label_that_is_read_as_one_of_the_workbook_is_refused():
    label = next(label for label, *_ in build_unseen_rows(UNSEEN, []) if "." in label)  # in a table
    assert fold_label(spell_out(label)) != fold_label(label)
    with pytest.raises(ValueError, match="labels of unseen concepts are in the workbook"):
        build_unseen_rows(UNSEEN, [(spell_out(label), "English", "no", "other")])


def test_rows_are_written_as_given(tmp_path: Path):
    rows = [("प्रवेश", "Hindi", "no", "place"), ("001", "English", "yes", "number")]
    write_workbook(rows, tmp_path / "a.xlsx")
    assert read(tmp_path / "a.xlsx") == rows
