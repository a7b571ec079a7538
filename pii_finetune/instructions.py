"""Labels that read as orders to a language model: data like any other, but their owner should know of them."""

import re

_SHORTEST = 12  # characters; spares most labels the search
_ORDER = re.compile(  # for lower case: to ignore case takes twice the time
    r"\b(ignore|disregard|forget|override)\b.{0,40}\b(instructions?|previous|prior|above|rules|prompt)\b"
    r"|\b(answer|respond|reply|say|output|return|print)\b.{0,20}\b(yes|no)\b"
    r"|\byou (are now|are an?|must|will)\b"
    r"|\bsystem prompt\b|^(system|assistant|user) ?:"
    r"|\b(ignorier\w*|vergiss|ignore[rz]?|oubli\w+|ignora[r]?|olvida|dimentica|esque\w+|negeer)\b"
    r".{0,40}\b(anweisung\w*|vorgabe\w*|instru\w+|consigne\w*|istruzion\w+|regel\w*|r[eè]gle\w*|reglas)\b",
)


def is_order(label: str) -> bool:
    """Return whether the label reads as if it told a model what to do."""
    return len(label) >= _SHORTEST and label.count(" ") > 1 and _ORDER.search(label.lower()) is not None
