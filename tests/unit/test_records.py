import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii_finetune.records import ANSWERS, Record, fingerprint

ROWS = [
    Record("first name", "English", True, 2),
    Record("color", "English", False, 3),
    Record("nom", "French", True, 4),
]


def test_the_answer_is_the_word_the_model_should_say():
    assert [r.answer for r in ROWS] == ["yes", "no", "yes"]
    assert ANSWERS == ("yes", "no")


@given(st.randoms())
def test_the_fingerprint_does_not_depend_on_the_order_of_rows(rng: random.Random):
    assert fingerprint(rng.sample(ROWS, len(ROWS))) == fingerprint(ROWS)


def test_the_fingerprint_does_not_depend_on_row_numbers():
    assert fingerprint(Record(r.label, r.language, r.sensitive, r.row + 100) for r in ROWS) == fingerprint(ROWS)


@pytest.mark.parametrize(
    "changed",
    [
        Record("last name", "English", True, 2),
        Record("first name", "Dutch", True, 2),
        Record("first name", "English", False, 2),
    ],
)
def test_the_fingerprint_changes_with_label_language_or_answer(changed: Record):
    assert fingerprint([changed, *ROWS[1:]]) != fingerprint(ROWS)


def test_the_fingerprint_changes_with_a_row_more_or_less():
    assert len({fingerprint(ROWS), fingerprint(ROWS[1:]), fingerprint([*ROWS, ROWS[0]])}) == 3


def test_the_fingerprint_is_the_same_in_every_version():
    assert fingerprint(ROWS[:2]) == "28a364199d636f6c203d946256946602cb2bf2d9b2337c2bb7cd50a2fa19ea8e"
