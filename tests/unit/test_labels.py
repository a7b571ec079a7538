import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii_finetune.labels import TECHNICAL_PREFIXES, clean_label, fold_label, spell_out

# Everything but invisible characters, which are tested one by one
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cf"]), max_size=30)
WORDS = st.lists(st.from_regex(r"[a-zé]{2,8}", fullmatch=True), min_size=1, max_size=4)


@given(TEXT)
def test_cleaning_twice_is_cleaning_once(text: str):
    assert clean_label(clean_label(text)) == clean_label(text)


@given(TEXT)
def test_a_clean_label_is_nfc_and_without_white_space_at_its_ends_or_doubled(text: str):
    cleaned = clean_label(text)
    assert cleaned == unicodedata.normalize("NFC", cleaned) == cleaned.strip()
    assert "  " not in cleaned
    assert "\n" not in cleaned


@pytest.mark.parametrize("invisible", ["\u200b", "\u2060", "\ufeff", "\u00ad"])
def test_invisible_characters_are_removed(invisible: str):
    assert clean_label(f"{invisible}first{invisible} name") == "first name"


def test_joiners_of_indic_scripts_and_emoji_stay():
    assert clean_label("क्‍ष") == "क्‍ष"
    assert clean_label("👩‍💻 role") == "👩‍💻 role"


@given(WORDS)
def test_all_surface_forms_of_a_label_have_one_key(words: list[str]):
    forms = [
        " ".join(words),
        " ".join(words).title(),
        "_".join(words),
        "_".join(words).upper(),
        "-".join(words),
        words[0] + "".join(word.capitalize() for word in words[1:]),
        "".join(word.capitalize() for word in words),
        "customer." + "_".join(words),
        "crm.contact." + "_".join(words),
        "  ".join(words) + "\u00a0",
    ]
    assert len({fold_label(form) for form in forms}) == 1


@given(WORDS.filter(lambda words: words[0] not in TECHNICAL_PREFIXES), st.sampled_from(TECHNICAL_PREFIXES))
def test_a_technical_prefix_does_not_make_another_label(words: list[str], prefix: str):
    key = fold_label(" ".join(words))
    assert fold_label("_".join([prefix, *words])) == fold_label(prefix + "".join(w.capitalize() for w in words)) == key


@given(st.from_regex(r"[A-Za-zÀ-ÖØ-Þà-öø-ÿ0-9_\-. ]*", fullmatch=True))
def test_folding_a_key_changes_nothing_but_a_further_plural(text: str):
    assert fold_label(fold_label(text)) == fold_label(text)


@given(TEXT.filter(clean_label))
def test_no_label_has_an_empty_key(text: str):
    assert fold_label(text)


def test_singular_and_plural_have_one_key_and_short_words_stay():
    assert fold_label("first names") == fold_label("FirstName")
    assert fold_label("addresses") == fold_label("address")
    assert fold_label("rates") == fold_label("rate")
    assert fold_label("es") == "es"


@pytest.mark.parametrize(("one", "other"), [("pêche", "péché"), ("año", "ano"), ("first name", "last name")])
def test_accents_and_words_make_different_labels(one: str, other: str):
    assert fold_label(one) != fold_label(other)


def test_a_prefix_alone_is_a_label():
    assert fold_label("col") == "col"


def test_decomposed_and_composed_letters_are_one_label():
    assert fold_label(unicodedata.normalize("NFD", "prénom")) == fold_label("prénom")


def test_dots_within_an_abbreviation_name_no_table():
    assert fold_label("D.O.B") == fold_label("DOB")
    assert fold_label("customer.first_name.") == fold_label("first_name")


def test_an_invisible_character_does_not_keep_a_letter_from_its_accent():
    assert clean_label("e\u200b\u0301tat") == "état"


@pytest.mark.parametrize(
    ("label", "spelled"),
    [
        ("crm.contact.txt_firstName", "crm contact first name"),
        ("CRM contact: first name", "crm contact first name"),
        ("col_IBAN", "iban"),
        ("col", "col"),
        ("D.O.B.", "dob"),
        ("date.of.birth", "date of birth"),
        ("driver's licence", "driver s licence"),
        ("Straße", "straße"),
        ("जन्म-तिथि", "जन्म तिथि"),
        ("పుట్టిన_తేదీ", "పుట్టిన తేదీ"),
        ("👩‍💻", "👩‍💻"),
        ("###", "###"),
    ],
)
def test_a_label_is_spelled_out_in_words(label: str, spelled: str):
    assert spell_out(label) == spelled


@given(WORDS.filter(lambda words: words[0] not in TECHNICAL_PREFIXES), st.sampled_from(TECHNICAL_PREFIXES))
def test_case_separators_and_technical_prefixes_are_not_read(words: list[str], prefix: str):
    forms = [
        "_".join(words).upper(),
        "-".join(words),
        "".join(w.capitalize() for w in words),
        "_".join([prefix, *words]),
    ]
    assert {spell_out(form) for form in forms} == {" ".join(words)}
    assert spell_out("orders." + "_".join(words)) == "orders " + " ".join(words)  # a table may decide


@given(TEXT)
def test_what_is_spelled_out_is_never_empty_unless_the_label_is(text: str):
    assert bool(spell_out(text)) == bool(clean_label(text))
