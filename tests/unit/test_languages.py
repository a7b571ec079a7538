import unicodedata

import pytest

from pii_finetune.languages import _CANONICAL, _LANGUAGES, LANGUAGES, UNKNOWN, canonical_language

ALIASES = [(alias, name) for name, aliases in _LANGUAGES.items() for alias in (name, *aliases)]


@pytest.mark.parametrize(("alias", "name"), ALIASES)
def test_every_spelling_is_understood_in_any_case(alias: str, name: str):
    assert {canonical_language(each) for each in (alias, alias.upper(), f"  {alias.title()} ")} == {name}


def test_no_spelling_means_two_languages():
    assert len(ALIASES) == len(_CANONICAL)


def test_the_languages_of_ai4privacy_are_known():
    assert {"English", "French", "German", "Italian", "Spanish", "Dutch", "Hindi", "Telugu"} <= set(LANGUAGES)


@pytest.mark.parametrize("text", ["", "klingon", "e", "en-GB?", UNKNOWN])
def test_what_is_no_language_is_none(text: str):
    assert canonical_language(text) is None


def test_a_decomposed_spelling_is_the_same_language():
    assert canonical_language(unicodedata.normalize("NFD", "français")) == "French"
