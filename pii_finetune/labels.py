"""What a label is, beneath the many ways of writing it: cleaning for use, spelling out to ask, folding to compare."""

import re
import unicodedata

MAX_LABEL_CHARACTERS = 200  # longer than any label in a workbook may be, so no model has seen such

# Written before a column name to say what kind of thing it is, never what it means.
TECHNICAL_PREFIXES = ("tbl", "col", "fld", "txt", "str", "attr", "inp", "frm", "dim", "stg", "src", "raw")

_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad]")  # zero-width space, word joiner, BOM, soft hyphen
CAMEL = re.compile(r"(?<=[a-zà-öø-ÿ0-9])(?=[A-ZÀ-ÖØ-Þ])|(?<=[A-ZÀ-ÖØ-Þ])(?=[A-ZÀ-ÖØ-Þ][a-zà-öø-ÿ])")
_TABLE = re.compile(r"^(?:[^\s.]{2,}\.)+(?=\S[^.]+$)")  # crm.contact. in crm.contact.first_name, not D.O. in D.O.B
_ENDING = re.compile(r"(?<=..)[es]+$")
_INITIALS = re.compile(r"(?<=\b\w)\.(?=\w\b)")  # the dots of D.O.B
_SEPARATORS = re.compile(r"[\s_\-./:#'’]+")


def clean_label(text: str) -> str:
    """Return `text` in NFC, without invisible characters, white space collapsed and trimmed.

    Joiners (U+200C, U+200D) stay: in Indic scripts and emoji they carry meaning.
    """
    return " ".join(unicodedata.normalize("NFC", _INVISIBLE.sub("", text)).split())


def spell_out(text: str) -> str:
    """Return `text` as words in lower case, one space between them; this is what the model reads.

    Separators and camelCase become spaces, a technical prefix is dropped, a table's name stays, for it may decide:
    `crm.contact.txt_firstName` and `CRM contact: first name` are both "crm contact first name". So ways of
    writing that show the same words have one answer; `firstname` shows one word. A label without a word stays as it is.
    """
    cleaned = clean_label(text)
    table, column = _split_table(_INITIALS.sub("", cleaned))
    return " ".join([*_split_words(table), *_without_prefix(_split_words(column))]).lower() or cleaned


def fold_label(text: str) -> str:
    """Return the key under which all surface forms of one label meet.

    Case, separators, camelCase, table names before a dot and technical prefixes are folded, accents are kept, and
    "e" and "s" at the end are dropped, so that rate, rates, address and addresses meet their plurals. Rows with one key
    are never on two sides of a split; folding a little too much only moves rows together, so it can cost balance but
    never cause a leak.
    """
    cleaned = clean_label(text)
    _, column = _split_table(cleaned)
    words = _without_prefix([word.casefold() for word in _split_words(column)])
    return _ENDING.sub("", "".join(words)) or cleaned.casefold()


def _split_table(cleaned: str) -> tuple[str, str]:
    inner = cleaned.strip(".")
    match = _TABLE.match(inner)
    return ("", inner) if match is None else (match.group(), inner[match.end() :])


def _split_words(text: str) -> list[str]:
    return [word for word in _SEPARATORS.split(CAMEL.sub(" ", text)) if word]


def _without_prefix(words: list[str]) -> list[str]:
    while len(words) > 1 and words[0].casefold() in TECHNICAL_PREFIXES:
        words = words[1:]
    return words
