"""What a message shows of a cell: a short excerpt in which nothing hides, and what in it is meant."""

import unicodedata

from pii_finetune.scripts import posing_letters
from pii_finetune.special_tokens import find_special_token

_NUM_LETTERS = 3  # pointed out of one label


def escape_cell(text: str | None, width: int = 40) -> str:
    """Return a short excerpt of a cell in quotes, with control, invisible and direction characters spelled out."""
    if text is None:
        return ""
    return f"'{_spell_out(text[:width])}{'…' if len(text) > width else ''}'"


def point_out(text: str | None, expectation: str, language: str | None) -> str:
    """Return the excerpt and, where the eye does not see what the expectation is about, that."""
    shown = escape_cell(text)
    if text is None:
        return shown
    if expectation == "label_script":
        letters = posing_letters(text, language)[:_NUM_LETTERS]
        meant = ", ".join(f"{c} U+{ord(c):04X} {unicodedata.name(c, '').split(' ')[0]}" for c in letters)
    elif expectation == "label_token":
        meant = _spell_out((find_special_token(text) or "")[:40])
    else:
        meant = ""
    return f"{shown} ({meant})" if meant else shown


def _spell_out(text: str) -> str:
    return "".join(c if unicodedata.category(c)[0] != "C" else f"\\u{ord(c):04x}" for c in text)
