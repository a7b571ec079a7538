"""What a label is, beneath the many ways of writing it: cleaning for use, folding for comparison."""

import re
import unicodedata

# Written before a column name to say what kind of thing it is, never what it means.
TECHNICAL_PREFIXES = ("tbl", "col", "fld", "txt", "str", "attr", "inp", "frm", "dim", "stg", "src", "raw")

_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad]")  # zero-width space, word joiner, BOM, soft hyphen
_CAMEL = re.compile(r"(?<=[a-zà-öø-ÿ0-9])(?=[A-ZÀ-ÖØ-Þ])|(?<=[A-ZÀ-ÖØ-Þ])(?=[A-ZÀ-ÖØ-Þ][a-zà-öø-ÿ])")
_TABLE = re.compile(r"^(?:[^\s.]{2,}\.)+(?=\S[^.]+$)")  # crm.contact. in crm.contact.first_name, not D.O. in D.O.B
_ENDING = re.compile(r"(?<=..)[es]+$")
_SEPARATORS = re.compile(r"[\s_\-./:#'’]+")


def clean_label(text: str) -> str:
    """Return `text` in NFC, without invisible characters, white space collapsed and trimmed.

    Joiners (U+200C, U+200D) stay: in Indic scripts and emoji they carry meaning.
    """
    return " ".join(unicodedata.normalize("NFC", _INVISIBLE.sub("", text)).split())


def fold_label(text: str) -> str:
    """Return the key under which all surface forms of one label meet.

    Case, separators, camelCase, table names before a dot and technical prefixes are folded, accents are kept, and
    "e" and "s" at the end are dropped, so that rate, rates, address and addresses meet their plurals. Rows with one key
    are never on two sides of a split; folding a little too much only moves rows together, so it can cost balance but
    never cause a leak.
    """
    cleaned = clean_label(text)
    column = _TABLE.sub("", cleaned.strip("."))
    words = [word.casefold() for word in _SEPARATORS.split(_CAMEL.sub(" ", column)) if word]
    while len(words) > 1 and words[0] in TECHNICAL_PREFIXES:
        words = words[1:]
    return _ENDING.sub("", "".join(words)) or cleaned.casefold()
