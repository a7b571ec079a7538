import numpy as np
import pytest

from pii_finetune.rule_baseline import MARGIN, RULES, answer_by_rules, matching_rules


@pytest.mark.parametrize(
    ("label", "rule"),
    [
        ("first_name", "name"),
        ("tbl_FirstName", "name"),
        ("firstname", "name"),
        ("CUSTOMER_NAME", "name"),
        ("e-mail", "e-mail"),
        ("EmailAddress", "e-mail"),
        ("user.phone_no", "phone"),
        ("D.O.B.", "birth"),
        ("dateOfBirth", "birth"),
        ("SSN", "national id"),
        ("passport number", "passport"),
        ("crm.contact.home_address", "address"),
        ("col_IBAN", "bank"),
        ("creditCardNumber", "card"),
        ("ip_address", "network"),
        ("blood type", "treatment"),
        ("annual salary", "money"),
        ("pwd", "password"),
    ],
)
def test_what_catalogues_look_for_is_found_in_any_way_of_writing(label: str, rule: str):
    assert rule in matching_rules(label)


@pytest.mark.parametrize(
    "label", ["message", "package", "shipment", "passenger count", "tooltip", "wagon", "color", "###"]
)
def test_short_words_are_not_found_within_longer_ones(label: str):
    assert matching_rules(label) == ()


def test_the_rules_know_no_language_but_english():
    assert matching_rules("prénom") == matching_rules("जन्म तिथि") == ()


def test_every_rule_finds_a_word_and_none_finds_nothing():
    assert not [name for name, pattern in RULES.items() if pattern.search("") or pattern.search("thing")]


def test_the_rules_are_as_sure_of_a_yes_as_of_a_no():
    scores = answer_by_rules([("first name", "English"), ("color", None)])
    assert scores.margin.tolist() == [MARGIN, -MARGIN]
    assert scores.probability.tolist() == pytest.approx([0.9, 0.1])
    assert scores.valid.tolist() == [True, True]


def test_no_questions_have_no_answers():
    assert answer_by_rules([]).margin.shape == answer_by_rules([]).valid.shape == (0,)
    assert answer_by_rules([]).answers.dtype == np.dtype(bool)
