"""The forms that one label takes in the wild: forms, column names, table prefixes, plurals."""

import random
import re
from collections.abc import Callable

from pii_finetune.labels import TECHNICAL_PREFIXES

_WORD_BREAK = re.compile(r"[\s\-_'’]+")
TABLES = ("customer", "users", "orders", "crm.contact", "hr.staff", "dwh.fact", "app", "event", "master", "import")


def _words(label: str) -> list[str]:
    return [word for word in _WORD_BREAK.split(label) if word]


def plain(label: str, _: random.Random) -> str:
    """first name"""
    return label


def title_case(label: str, _: random.Random) -> str:
    """First Name"""
    return " ".join(word[:1].upper() + word[1:] for word in label.split(" "))


def sentence_case(label: str, _: random.Random) -> str:
    """First name"""
    return label[:1].upper() + label[1:]


def snake_case(label: str, _: random.Random) -> str:
    """first_name"""
    return "_".join(word.lower() for word in _words(label))


def camel_case(label: str, _: random.Random) -> str:
    """firstName"""
    first, *rest = (word.lower() for word in _words(label))
    return first + "".join(word.capitalize() for word in rest)


def pascal_case(label: str, _: random.Random) -> str:
    """FirstName"""
    return "".join(word.lower().capitalize() for word in _words(label))


def upper_case(label: str, _: random.Random) -> str:
    """FIRST_NAME"""
    return "_".join(word.upper() for word in _words(label))


def kebab_case(label: str, _: random.Random) -> str:
    """first-name"""
    return "-".join(word.lower() for word in _words(label))


def prefixed(label: str, rng: random.Random) -> str:
    """col_first_name"""
    return f"{rng.choice(TECHNICAL_PREFIXES)}_{snake_case(label, rng)}"


def in_table(label: str, rng: random.Random) -> str:
    """customer.first_name"""
    return f"{rng.choice(TABLES)}.{snake_case(label, rng)}"


def plural(label: str, _: random.Random) -> str:
    """first names (English only)"""
    return label if label.endswith(("s", "y", "x", "ch", "sh")) else label + "s"


# How often each form stands for a label. Indic scripts have no case, so only separators and prefixes vary there.
_LATIN: dict[Callable[[str, random.Random], str], float] = {
    plain: 3,
    title_case: 3,
    sentence_case: 2,
    snake_case: 4,
    camel_case: 2,
    pascal_case: 1,
    upper_case: 2,
    kebab_case: 1,
    prefixed: 1,
    in_table: 2,
}
_INDIC: dict[Callable[[str, random.Random], str], float] = {plain: 6, snake_case: 3, prefixed: 0.5, in_table: 1}


# An abbreviation is a column name already.
_COLUMN: dict[Callable[[str, random.Random], str], float] = {
    plain: 4,
    upper_case: 2,
    camel_case: 1,
    prefixed: 1,
    in_table: 2,
}


def draw_form(label: str, language: str, rng: random.Random) -> str:
    """Return `label` in a form drawn at random, the same for the same state of `rng`."""
    if "_" in label:
        weights = _COLUMN
    elif language in ("Hindi", "Telugu"):
        weights = _INDIC
    else:
        weights = _LATIN | ({plural: 1} if language == "English" else {})
    return rng.choices(list(weights), list(weights.values()))[0](label, rng)
