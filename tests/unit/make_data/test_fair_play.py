import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from make_data import fair_play
from make_data.fair_play import MAX_SEPARATION, NEVER, phrases_of, separations
from make_data.glossary import GLOSSARY, read_glossary
from make_data.pretraining_text import Entry, read_entries

CONCEPTS = {e.name for e in read_entries() if e.kind == "concept"}
LEXICON = {e.name for e in read_entries()} - CONCEPTS
SENSITIVE = {concept.name for concept in read_glossary(GLOSSARY) if concept.sensitive == "yes"}


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, set[str]], None]:
    """Add a text to the definitions of the named concepts."""

    def add(text: str, names: set[str]) -> None:
        entries = [replace(e, definitions=(*e.definitions, text)) if e.name in names else e for e in read_entries()]
        monkeypatch.setattr(fair_play, "read_entries", lambda: entries)

    return add


def test_no_word_or_phrase_separates_the_answers_beyond_the_bound():
    assert abs(separations()[0][1]) <= MAX_SEPARATION


def test_a_word_that_gives_every_answer_away_is_found(plant):
    plant("belongs to a qwertz", SENSITIVE)
    assert ("qwertz", pytest.approx(1.0)) in separations()[:10]


def test_a_phrase_of_common_words_in_a_fifth_of_the_sensitive_concepts_breaks_the_bound(plant):
    plant("of whom or who", set(sorted(SENSITIVE)[::5]))
    strongest = dict(separations())
    assert strongest["of whom or"] > MAX_SEPARATION


def test_a_word_of_all_harmless_concepts_is_found_too(plant):
    plant("qwertz", CONCEPTS - SENSITIVE)
    assert dict(separations())["qwertz"] == pytest.approx(-1.0)


def test_the_lexicon_has_no_answer_to_lean_to(plant):
    plant("qwertz", set(LEXICON))
    assert "qwertz" not in dict(separations())


def test_phrases_are_runs_of_one_to_three_words():
    entry = Entry("x", True, {}, (), ("One two, three four",), (), ())
    assert {"one", "two three", "two three four"} <= phrases_of(entry)
    assert "one two three four" not in phrases_of(entry)


def test_the_question_and_its_answer_are_never_spoken_of():
    texts = [text for e in read_entries() for text in (*e.definitions, *e.examples, *e.places)]
    never = re.compile(rf"\b({'|'.join(set(NEVER) - {'answer'})})\b", re.IGNORECASE)
    assert not [text for text in texts if never.search(text)]
