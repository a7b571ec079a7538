import re
from collections.abc import Iterator

from make_data.glossary import GLOSSARY, UNSEEN_GLOSSARY, read_glossary
from make_data.pretraining_text import read_entries
from make_data.workbook import build_rows
from pii_finetune.labels import fold_label

CONCEPTS = read_glossary(GLOSSARY)
UNSEEN = {
    label
    for concept in read_glossary(UNSEEN_GLOSSARY)
    for labels in (*concept.labels.values(), concept.abbreviations)
    for label in labels
}
UNSEEN_KEYS = {fold_label(label) for label in UNSEEN}
WORD = re.compile(r"[\w\u0900-\u097f\u0c00-\u0c7f]+")  # vowel signs of Devanagari and Telugu are no \w


def words(text: str) -> tuple[str, ...]:
    return tuple(WORD.findall(text.casefold().replace("_", " ")))


def drawable() -> Iterator[str]:
    """Everything a line of pretraining text can be drawn from."""
    for entry in read_entries():
        yield from (*entry.definitions, *entry.examples, *entry.places, *entry.abbreviations)
        for labels in entry.labels.values():
            yield from labels


def phrases(text: str, longest: int) -> Iterator[tuple[str, ...]]:
    found = words(text)
    for start in range(len(found)):
        for stop in range(start + 1, min(start + longest, len(found)) + 1):
            yield found[start:stop]


def test_no_unseen_label_is_a_label_of_the_workbook():
    assert not [label for label, *_ in build_rows(CONCEPTS) if fold_label(label) in UNSEEN_KEYS]


def test_no_unseen_label_is_a_label_of_the_glossary():
    labels = [label for c in CONCEPTS for ls in (*c.labels.values(), c.abbreviations) for label in ls]
    assert not [label for label in labels if fold_label(label) in UNSEEN_KEYS]


def test_no_unseen_label_is_a_text_of_the_pretraining():
    assert not [text for text in drawable() if fold_label(text) in UNSEEN_KEYS]


def test_no_unseen_label_stands_as_a_phrase_in_the_pretraining():
    unseen = {words(label) for label in UNSEEN}
    longest = max(map(len, unseen))
    assert not [phrase for text in drawable() for phrase in phrases(text, longest) if phrase in unseen]


def test_no_unseen_concept_is_a_concept_of_the_glossary():
    known, unseen = ({concept.name for concept in read_glossary(path)} for path in (GLOSSARY, UNSEEN_GLOSSARY))
    assert not known & unseen
