"""Measures whether the pretraining text gives the answer away. Run by `make fair-play`; a test holds the bounds.

If one word stood in the text of every sensitive concept and of no other, fine-tuning would only have to find that word,
and the embedded base would show nothing. Separation of a word or phrase: the share of sensitive concepts whose text
(definitions, example values, places) contains it, minus the share of the others; 1 would decide every concept, 0 none.
"""

import re
from collections import Counter

from make_data.glossary import GLOSSARY, read_glossary
from make_data.pretraining_text import Entry, read_entries

MAX_SEPARATION = 0.15
NEVER = (
    "sensitive",
    "personal",
    "private",
    "privacy",
    "confidential",
    "pii",
    "gdpr",
)  # in no definition, example or place

_WORD = re.compile(r"[^\W\d_]+")


def phrases_of(entry: Entry) -> set[str]:
    """Return every run of one to three words in what the text says about an entry, beyond its labels."""
    found: set[str] = set()
    for text in (*entry.definitions, *entry.examples, *entry.places):
        words = _WORD.findall(text.lower())
        found |= {" ".join(words[at : at + n]) for n in (1, 2, 3) for at in range(len(words) - n + 1)}
    return found


def separations() -> list[tuple[str, float]]:
    """Return all phrases with their separation (positive: leans to sensitive), strongest first."""
    answers = {concept.name: concept.sensitive for concept in read_glossary(GLOSSARY)}
    seen = {"yes": Counter[str](), "no": Counter[str]()}
    for entry in read_entries():
        if entry.kind == "concept":  # nothing else has an answer
            seen[answers[entry.name]].update(phrases_of(entry))
    size = Counter(answers.values())
    strength = {p: seen["yes"][p] / size["yes"] - seen["no"][p] / size["no"] for p in seen["yes"] | seen["no"]}
    return sorted(strength.items(), key=lambda item: -abs(item[1]))


def main() -> None:
    """Print the strongest phrases."""
    told = [word for entry in read_entries() for word in sorted(phrases_of(entry) & set(NEVER))]
    print(f"words that never occur: {', '.join(NEVER)}; found: {', '.join(told) or 'none'}")
    print(f"bound {MAX_SEPARATION:.2f}; strongest phrases (positive: leans to sensitive)")
    for phrase, strength in separations()[:20]:
        print(f"  {strength:+.3f}  {phrase}")


if __name__ == "__main__":
    main()
