"""The text the embedded base is pretrained on: what labels mean and how they are said in eight languages.

A base model from a hub knows what words mean and has never been asked our question. So does this one: its text holds
translations, definitions, example values and places, and neither the question's wording nor any answer to it.
Run as a program, it prints a sample.
"""

import csv
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from make_data.forms import draw_form
from make_data.glossary import DATA, GLOSSARY, LANGUAGE_OF, UNSEEN_GLOSSARY, read_glossary, split_cell
from pii_finetune.labels import fold_label

KNOWLEDGE = DATA / "pretraining" / "knowledge.csv"
LEXICON = DATA / "pretraining" / "lexicon.csv"

Labels = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Entry:
    """A concept of the glossary or a word of the lexicon, as far as the pretraining text may know it."""

    name: str
    labels: Labels  # language name -> labels
    abbreviations: tuple[str, ...]
    definitions: tuple[str, ...]
    examples: tuple[str, ...]
    places: tuple[str, ...]


def read_entries() -> list[Entry]:
    """Return all entries; words of the lexicon that are a label of an unseen concept are left out."""
    unseen = {fold_label(label) for c in read_glossary(UNSEEN_GLOSSARY) for ls in c.labels.values() for label in ls}
    with KNOWLEDGE.open(encoding="utf-8", newline="") as file:
        knowledge = {row["concept"]: row for row in csv.DictReader(file)}
    concepts = [
        Entry(
            concept.name,
            concept.labels,
            concept.abbreviations,
            *(split_cell(knowledge[concept.name][column]) for column in ("definitions", "examples", "places")),
        )
        for concept in read_glossary(GLOSSARY)
    ]
    with LEXICON.open(encoding="utf-8", newline="") as file:
        words = [
            Entry(
                row["word"],
                {language: split_cell(row[code]) for code, language in LANGUAGE_OF.items()},
                (),
                split_cell(row["definitions"]),
                (),
                (),
            )
            for row in csv.DictReader(file)
        ]
    return concepts + [w for w in words if not unseen & {fold_label(label) for ls in w.labels.values() for label in ls}]


class TextGenerator:
    """Draws lines for ever; the same seed draws the same lines."""

    def __init__(self, entries: list[Entry], seed: int) -> None:
        self._entries = entries
        self._rng = random.Random(seed)
        self._with_examples = [e for e in entries if e.examples]
        self._kinds = {
            self._translate: 6.0,
            self._gloss: 1.0,
            self._define: 3.0,
            self._name_what_is_defined: 2.0,
            self._same_meaning: 3.0,
            self._give_example: 1.0,
            self._recognise_example: 1.0,
            self._say_where: 1.0,
        }

    def __iter__(self) -> Iterator[str]:
        kinds, weights = list(self._kinds), list(self._kinds.values())
        while True:
            yield self._rng.choices(kinds, weights)[0]()

    def _any(self) -> Entry:
        return self._rng.choice(self._entries)

    def _label(self, entry: Entry, language: str) -> str:
        """Return a label as it stands in the wild."""
        names = entry.labels[language]
        if language == "English" and entry.abbreviations and self._rng.random() < 0.2:
            names = entry.abbreviations
        return draw_form(self._rng.choice(names), language, self._rng)

    def _language(self) -> str:
        return self._rng.choice(list(LANGUAGE_OF.values()))

    def _translate(self) -> str:
        entry, source, target = self._any(), self._language(), self._language()
        if self._rng.random() < 0.5:
            target = "English"
        return _turn(f'{source}: "{self._label(entry, source)}" in {target}?', self._rng.choice(entry.labels[target]))

    def _gloss(self) -> str:
        entry, languages = self._any(), list(LANGUAGE_OF.values())
        self._rng.shuffle(languages)
        return _end("; ".join(f"{lang}: {self._rng.choice(entry.labels[lang])}" for lang in languages[:4]))

    def _define(self) -> str:
        entry, language = self._any(), self._language()
        return _turn(f'{language}: "{self._label(entry, language)}" means?', self._rng.choice(entry.definitions))

    def _name_what_is_defined(self) -> str:
        entry, language = self._any(), self._language()
        return _turn(f"{self._rng.choice(entry.definitions)}, in {language}?", self._rng.choice(entry.labels[language]))

    def _same_meaning(self) -> str:
        first, one, two = self._any(), self._language(), self._language()
        same = self._rng.random() < 0.5
        second = first if same else self._neighbour(first)
        question = f'{one}: "{self._label(first, one)}", {two}: "{self._label(second, two)}", the same?'
        return _turn(question, "yes" if second is first else "no")

    def _neighbour(self, entry: Entry) -> Entry:
        """Return another entry, half the time one that shares a word with `entry`, so that the words must be read."""
        words = set(entry.labels["English"][0].split())
        near = [e for e in self._rng.sample(self._entries, 60) if words & set(e.labels["English"][0].split())]
        return self._rng.choice(near) if near and self._rng.random() < 0.5 else self._any()

    def _give_example(self) -> str:
        entry, language = self._rng.choice(self._with_examples), self._language()
        return _turn(f'{language}: "{self._label(entry, language)}", for example?', self._rng.choice(entry.examples))

    def _recognise_example(self) -> str:
        entry, language = self._rng.choice(self._with_examples), self._language()
        return _turn(f"{self._rng.choice(entry.examples)} is what, in {language}?", self._rng.choice(entry.labels[language]))

    def _say_where(self) -> str:
        entry, language = self._rng.choice(self._with_examples), self._language()
        return _turn(f'{language}: "{self._label(entry, language)}" stands where?', self._rng.choice(entry.places))


def _turn(question: str, answer: str) -> str:
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"


def _end(line: str) -> str:
    return f"{line}<|endoftext|>"


def main() -> None:
    """Print a sample of the text."""
    lines = iter(TextGenerator(read_entries(), seed=0))
    for _ in range(40):
        print(next(lines))


if __name__ == "__main__":
    main()
