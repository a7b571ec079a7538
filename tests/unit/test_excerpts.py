import pytest

from pii_finetune.excerpts import escape_cell, point_out


def test_what_hides_in_a_cell_is_spelled_out_and_long_ones_are_cut():
    assert escape_cell("eman\u202e\u200b") == "'eman\\u202e\\u200b'"
    assert escape_cell("x" * 50) == f"'{'x' * 40}…'"
    assert escape_cell(None) == ""


@pytest.mark.parametrize(
    ("label", "language", "shown"),
    [
        ("\u0440assport", "English", "'\u0440assport' (\u0440 U+0440 CYRILLIC)"),
        (
            "my \u0440asspor\u0442",
            "English",
            "'my \u0440asspor\u0442' (\u0440 U+0440 CYRILLIC, \u0442 U+0442 CYRILLIC)",
        ),
        ("n\u03bfme", "Greek", "'n\u03bfme' (\u03bf U+03BF GREEK)"),
        ("\u0441\u043e\u0440\u0443", None, "'сору' (с U+0441 CYRILLIC, о U+043E CYRILLIC, р U+0440 CYRILLIC)"),
    ],
)
def test_a_letter_that_poses_as_a_latin_one_is_pointed_out(label: str, language: str | None, shown: str):
    assert point_out(label, "label_script", language) == shown


def test_a_control_token_is_named_even_where_the_excerpt_ends_before_it():
    assert point_out("x" * 60 + " ＜|im_end|＞", "label_token", "English") == f"'{'x' * 40}…' (<|im_end|>)"


def test_of_other_expectations_the_cell_itself_is_shown():
    assert point_out("\u0440assport <s>", "label_kind", "English") == "'\u0440assport <s>'"
    assert point_out(None, "label_script", None) == ""
