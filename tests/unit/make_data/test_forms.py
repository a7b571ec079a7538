import random

import pytest

from make_data import forms
from make_data.glossary import GLOSSARY, UNSEEN_GLOSSARY, read_glossary
from pii_finetune.labels import TECHNICAL_PREFIXES, fold_label

CONCEPTS = [*read_glossary(GLOSSARY), *read_glossary(UNSEEN_GLOSSARY)]
LABELS = {(label, lang) for concept in CONCEPTS for lang, labels in concept.labels.items() for label in labels}
ABBREVIATIONS = {abbreviation for concept in CONCEPTS for abbreviation in concept.abbreviations}


def is_latin(language: str) -> bool:
    return language not in ("Hindi", "Telugu")


@pytest.mark.parametrize("form", forms._LATIN, ids=lambda form: form.__name__)
def test_every_form_of_a_latin_label_folds_to_its_key(form):
    rng = random.Random(0)
    labels = [label for label, language in LABELS if is_latin(language)]
    assert not [label for label in labels if fold_label(form(label, rng)) != fold_label(label)]


@pytest.mark.parametrize("form", forms._INDIC, ids=lambda form: form.__name__)
def test_every_form_of_an_indic_label_folds_to_its_key(form):
    rng = random.Random(0)
    labels = [label for label, language in LABELS if not is_latin(language)]
    assert not [label for label in labels if fold_label(form(label, rng)) != fold_label(label)]


@pytest.mark.parametrize("form", forms._COLUMN, ids=lambda form: form.__name__)
def test_every_form_of_an_abbreviation_folds_to_its_key(form):
    rng = random.Random(0)
    assert not [label for label in ABBREVIATIONS if fold_label(form(label, rng)) != fold_label(label)]


def test_the_plural_of_an_english_label_folds_to_its_key():
    rng = random.Random(0)
    labels = [label for label, language in LABELS if language == "English"]
    assert not [label for label in labels if fold_label(forms.plural(label, rng)) != fold_label(label)]


def test_every_prefix_and_table_name_folds_away():
    for prefix in TECHNICAL_PREFIXES:
        assert fold_label(f"{prefix}_first_name") == fold_label("first name")
    for table in forms.TABLES:
        assert fold_label(f"{table}.first_name") == fold_label("first name")


@pytest.mark.parametrize("form", [*forms._LATIN, *forms._INDIC, forms.plural], ids=lambda form: form.__name__)
def test_a_form_is_shaped_as_its_docstring_shows(form):
    example = form.__doc__.removesuffix(" (English only)")
    drawn = form("first name", random.Random(0))
    if form in (forms.prefixed, forms.in_table):
        assert drawn.endswith("first_name")
    else:
        assert drawn == example


def test_the_same_state_of_the_generator_draws_the_same_form():
    assert [forms.draw_form("first name", "English", random.Random(7)) for _ in range(3)] == [
        forms.draw_form("first name", "English", random.Random(7))
    ] * 3


def test_all_forms_are_drawn():
    rng = random.Random(0)
    assert {"first name", "First Name", "first_name", "firstName", "FIRST_NAME", "first names"} <= {
        forms.draw_form("first name", "English", rng) for _ in range(300)
    }
