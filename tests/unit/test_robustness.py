import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii_finetune.labels import TECHNICAL_PREFIXES, clean_label, fold_label, spell_out
from pii_finetune.records import Record
from pii_finetune.robustness import KINDS, MAX_EXAMPLES, flip_rates, perturb
from pii_finetune.scores import Question, Scores

ASCII_WORDS = st.lists(st.from_regex(r"[a-z]{2,8}", fullmatch=True), min_size=1, max_size=4, unique=True).filter(
    lambda words: words[0] not in TECHNICAL_PREFIXES
)
JOINED = st.sampled_from([" ".join, "_".join, "-".join, lambda words: " ".join(map(str.capitalize, words))])
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cf"]), max_size=25).map(clean_label).filter(bool)
SEEDS = st.integers(0, 2**32 - 1)


def variants_of(label: str, *kinds: str, seed: int = 0) -> list[str]:
    return [v.label for v in perturb([Record(label, "English", True, 2)], seed, kinds or KINDS)]


def edits(one: str, other: str) -> int:
    """The least number of adjacent swaps, drops and insertions, or 2 for more than one."""
    if len(one) == len(other):
        different = [at for at in range(len(one)) if one[at] != other[at]]
        swapped = (
            len(different) == 2 and one[different[0] : different[1] + 1] == other[different[0] : different[1] + 1][::-1]
        )
        return 1 if swapped and different[1] - different[0] == 1 else 2
    short, long = sorted((one, other), key=len)
    return 1 if any(long[:at] + long[at + 1 :] == short for at in range(len(long))) else 2


def test_every_kind_of_change_is_made():
    assert variants_of("prénom client", "case") == ["PRÉNOM CLIENT", "Prénom Client"]
    assert variants_of("prénom client", "separators") == ["prénom_client", "prénom-client", "prénomClient"]
    assert variants_of("prénom client", "diacritics") == ["prenom client"]
    assert variants_of("firstName", "separators") == ["first Name", "first_Name", "first-Name"]
    [prefixed] = variants_of("prénom client", "technical prefix")
    assert prefixed.removesuffix("_prénom_client") in TECHNICAL_PREFIXES
    [in_table] = variants_of("prénom client", "table name")
    assert in_table.endswith(".prénom_client")
    [mistyped] = variants_of("prénom client", "typo")
    assert edits(mistyped, "prénom client") == 1


@pytest.mark.parametrize("label", ["जन्म तिथि", "పుట్టిన తేదీ"])
def test_scripts_without_case_and_accents_get_only_what_applies(label: str):
    assert variants_of(label, "case", "diacritics", "typo") == []
    first, second = label.split()
    assert variants_of(label, "separators") == [f"{first}_{second}", f"{first}-{second}"]


def test_vowel_signs_are_no_accents():
    assert variants_of("नाम état", "diacritics") == ["नाम etat"]


def test_an_accent_alone_is_not_stripped_to_nothing():
    assert variants_of("\u0301", "diacritics") == []


@given(TEXT, SEEDS)
def test_no_variant_is_its_original_and_none_comes_twice(label: str, seed: int):
    for kind in KINDS:
        variants = variants_of(label, kind, seed=seed)
        assert label not in variants
        assert len(set(variants)) == len(variants)
        assert all(variants)


@given(st.lists(TEXT, min_size=1, max_size=5), SEEDS)
def test_variants_depend_on_the_label_and_the_seed_alone(labels: list[str], seed: int):
    records = [Record(label, "English", True, at) for at, label in enumerate(labels)]
    together = perturb(records, seed)
    assert together == perturb(records, seed)
    for at, record in enumerate(records):
        assert [v.label for v in together if v.at == at] == [v.label for v in perturb([record], seed)]


def test_another_seed_gives_other_typos():
    assert len({*(variants_of("date of birth", "typo", seed=seed)[0] for seed in range(20))}) > 5


def test_labels_do_not_all_get_the_same_prefix_or_table():
    labels = [f"label {at}" for at in range(30)]
    for kind in ("technical prefix", "table name"):
        assert len({variants_of(label, kind)[0].removesuffix(label.replace(" ", "_")) for label in labels}) > 4


@given(ASCII_WORDS, JOINED, SEEDS)
def test_case_separators_and_technical_prefixes_are_spelled_out_as_the_original(words: list[str], join, seed: int):
    label = join(words)
    for variant in variants_of(label, "case", "separators", "technical prefix", seed=seed):
        assert spell_out(variant) == spell_out(label) == " ".join(words)


def test_a_camel_case_label_in_capitals_is_one_word_to_the_model():
    assert spell_out(variants_of("firstName", "case")[0]) == "firstname"


@given(ASCII_WORDS, JOINED, SEEDS)
def test_a_table_name_is_read_but_is_the_same_label(words: list[str], join, seed: int):
    [variant] = variants_of(join(words), "table name", seed=seed)
    assert spell_out(variant).split()[1:] == words
    assert fold_label(variant) == fold_label(join(words))


def test_a_label_with_a_table_gets_no_second_one_and_no_prefix_before_it():
    assert variants_of("crm.first_name", "technical prefix", "table name") == []
    assert variants_of("crm.first_name", "separators") == ["crm.first name", "crm.first-name", "crm.firstName"]


@given(TEXT, SEEDS)
def test_a_typo_is_one_edit_and_leaves_short_labels_alone(label: str, seed: int):
    typos = variants_of(label, "typo", seed=seed)
    assert len(typos) <= 1
    assert all(edits(label, typo) == 1 for typo in typos)
    if sum(letter.lower() != letter.upper() for letter in label) < 5:
        assert not typos


@given(st.from_regex(r"[a-z]{5,10}", fullmatch=True), SEEDS)
def test_a_long_enough_label_gets_a_typo(label: str, seed: int):
    assert len(variants_of(label, "typo", seed=seed)) == 1 or len(set(label)) == 1


RECORDS = [
    Record("first name", "English", True, 2),
    Record("colour", "English", False, 3),
    Record("first name", "French", True, 4),
]


class ByCapitals:
    """Says yes to a label in capitals, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[Question]] = []

    def __call__(self, questions: Sequence[Question]) -> Scores:
        self.asked.append(list(questions))
        return Scores(
            np.array([2.0 if label.isupper() else -1.0 for label, _ in questions]), np.ones(len(questions), bool)
        )


def test_a_flip_rate_is_the_share_of_variants_with_another_answer():
    rates = flip_rates(ByCapitals(), RECORDS, 0)
    assert (rates["case"].num_variants, rates["case"].share) == (6, 0.5)  # UPPER and Title of each
    assert rates["separators"].share == rates["table name"].share == rates["typo"].share == 0.0
    assert set(rates) == set(KINDS)


def test_flips_are_shown_with_both_probabilities():
    [flip, *others] = flip_rates(ByCapitals(), RECORDS, 0)["case"].examples
    assert (flip.label, flip.variant, flip.language) == ("first name", "FIRST NAME", "English")
    assert flip.probability < 0.5 < flip.variant_probability
    assert len(others) == 2


def test_the_model_is_asked_once_and_no_question_twice():
    model = ByCapitals()
    flip_rates(model, [*RECORDS, Record("FIRST NAME", "English", True, 5)], 0)
    [asked] = model.asked
    assert len(asked) == len(set(asked))
    assert {("first name", "English"), ("FIRST NAME", "English"), ("first name", "French")} <= set(asked)


def test_at_most_a_few_flips_are_shown_those_that_move_most_first():
    def by_length(questions: Sequence[Question]) -> Scores:
        margin = [len(label) / 10 if label.isupper() else -len(label) / 10 for label, _ in questions]
        return Scores(np.array(margin), np.ones(len(questions), bool))

    records = [Record("x" * length, "English", True, length) for length in range(2, 12)]
    shown = flip_rates(by_length, records, 0, ["case"])["case"].examples
    assert [len(flip.label) for flip in shown] == [11, 10, 9, 8, 7]
    assert len(shown) == MAX_EXAMPLES


def test_variants_that_are_spelled_out_alike_are_told_apart_from_those_that_could_flip():
    rates = flip_rates(ByCapitals(), [*RECORDS, Record("lastName", "English", True, 5)], 0)
    assert rates["separators"].num_spelled_anew == rates["technical prefix"].num_spelled_anew == 0
    assert rates["case"].num_spelled_anew == 3  # LASTNAME, lastname, Lastname
    assert rates["table name"].num_spelled_anew == rates["table name"].num_variants == 4


def test_a_kind_without_variants_has_no_rate():
    rate = flip_rates(ByCapitals(), RECORDS, 0)["diacritics"]
    assert rate.num_variants == 0
    assert math.isnan(rate.share)
    assert rate.examples == ()


def test_no_records_have_no_rates():
    assert all(math.isnan(rate.share) for rate in flip_rates(ByCapitals(), [], 0).values())
