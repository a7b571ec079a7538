"""The words by which people answer yes or no in a workbook: written out, never guessed."""

# language: (words for yes, words for no), in lower case and NFC
_WORDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "any": (("1",), ("0",)),
    "English": (("yes", "y", "true"), ("no", "n", "false")),
    "French": (("oui", "vrai"), ("non", "faux")),
    "German": (("ja", "wahr"), ("nein", "falsch")),
    "Italian": (("sì", "si", "vero"), ("no", "falso")),
    "Spanish": (("sí", "si", "verdadero"), ("no", "falso")),
    "Dutch": (("ja", "waar"), ("nee", "onwaar")),
    "Hindi": (("हाँ", "हां"), ("नहीं",)),
    "Telugu": (("అవును",), ("కాదు", "లేదు")),
    "Portuguese": (("sim", "verdadeiro"), ("não", "falso")),
    "Polish": (("tak",), ("nie",)),
}

_ANSWERS: dict[str, str] = {}
for _yes, _no in _WORDS.values():
    _ANSWERS |= dict.fromkeys(_yes, "yes") | dict.fromkeys(_no, "no")


def canonical_answer(text: str) -> str | None:
    """Return yes or no for a word that means it, whatever its case, or None."""
    return _ANSWERS.get(text.casefold())
