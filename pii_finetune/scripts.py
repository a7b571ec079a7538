"""Letters of another script that pose as Latin ones: `рassport` with a Cyrillic р is not what it reads as."""

import re

_OTHER = re.compile("[\u0370-\u058f\u13a0-\u13ff\u1c80-\u1c8f\u1f00-\u1fff\u2de0-\u2dff\ua640-\ua69f]")
_LATIN = re.compile("[A-Za-z\u00c0-\u024f]")
_WORD = re.compile(r"[^\W\d_]+")
# Greek letters that look Latin; the others (kΩ, α, Σ) stand beside Latin ones in honest labels.
_GREEK_TWINS = frozenset("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧονικρτυχ")
_CYRILLIC_TWINS = frozenset("АВЕЅІЈКМНОРСТУХаеорсухіјѕԁһӏԛԝ")
_NOT_LATIN = frozenset(
    (
        *("Hindi", "Telugu", "Arabic", "Bengali", "Bulgarian", "Chinese", "Greek", "Gujarati", "Hebrew", "Japanese"),
        *("Kannada", "Korean", "Malayalam", "Marathi", "Punjabi", "Russian", "Tamil", "Thai", "Ukrainian", "Urdu"),
    )
)


def posing_letters(label: str, language: str | None) -> str:
    """Return the lookalike letters of the first word that mixes them with Latin ones, or has no others.

    A word of lookalikes only is honest in a language of another script. Empty: nothing poses.

    Source: Unicode Technical Standard 39 (confusables, mixed-script detection), for the scripts that matter here.
    """
    if not _OTHER.search(label):
        return ""
    for word in _WORD.findall(label):
        strangers = dict.fromkeys(letter for letter in word if _OTHER.match(letter))
        if not strangers:
            continue
        if _LATIN.search(word):
            posing = [letter for letter in strangers if letter in _GREEK_TWINS or not "\u0370" <= letter <= "\u03ff"]
            if posing:
                return "".join(posing)
        elif language not in _NOT_LATIN and all(letter in _GREEK_TWINS | _CYRILLIC_TWINS for letter in word):
            return "".join(strangers)
    return ""
