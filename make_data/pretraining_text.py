"""The text the embedded base is pretrained on: what labels mean and how they are said in eight languages.

A base model from a hub knows what words mean and has never been asked our question. So does this one: its text holds
translations, definitions, example values and places, and neither the question's wording nor any answer to it.
Run as a program, it prints a sample.
"""

import csv
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from make_data.forms import draw_form
from make_data.glossary import DATA, GLOSSARY, LANGUAGE_OF, UNSEEN_GLOSSARY, read_glossary, split_cell
from pii_finetune.labels import fold_label

KNOWLEDGE = DATA / "pretraining" / "knowledge.csv"
LEXICON = DATA / "pretraining" / "lexicon.csv"
PHRASES = DATA / "pretraining" / "phrases.csv"

Labels = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Entry:
    """A concept of the glossary, a word of the lexicon or a phrase, as far as the pretraining text may know it."""

    name: str
    is_concept: bool
    labels: Labels  # language name -> labels
    abbreviations: tuple[str, ...]
    definitions: tuple[str, ...]  # phrases have none
    examples: tuple[str, ...]  # words, phrases and some concepts have neither examples nor places
    places: tuple[str, ...]


def read_entries() -> list[Entry]:
    """Return all entries; words and phrases that are a label of an unseen concept are left out."""
    unseen = _unseen_keys()
    with KNOWLEDGE.open(encoding="utf-8", newline="") as file:
        knowledge = {row["concept"]: row for row in csv.DictReader(file)}
    concepts = [
        Entry(
            concept.name,
            True,
            concept.labels,
            concept.abbreviations,
            *(split_cell(knowledge[concept.name][column]) for column in ("definitions", "examples", "places")),
        )
        for concept in read_glossary(GLOSSARY)
    ]
    others = [*_read_words(LEXICON, "word"), *_read_words(PHRASES, "phrase")]
    return concepts + [
        e for e in others if not unseen & {fold_label(label) for labels in e.labels.values() for label in labels}
    ]


def _unseen_keys() -> set[str]:
    return {
        fold_label(label) for c in read_glossary(UNSEEN_GLOSSARY) for labels in c.labels.values() for label in labels
    }


def _read_words(path: Path, name: str) -> Iterator[Entry]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            labels = {language: split_cell(row[code]) for code, language in LANGUAGE_OF.items()}
            yield Entry(row[name], False, labels, (), split_cell(row.get("definitions", "")), (), ())


@dataclass(frozen=True)
class Line:
    """One line of text: the model reads `given` and learns to write `learned` (and so do all loss figures)."""

    given: str
    learned: str


class TextGenerator:
    """Draws lines for ever; the same seed draws the same lines.

    Most lines are dialogues: the system turn sets a task, the user turn holds fields, the assistant solves it.
    """

    def __init__(self, entries: list[Entry], seed: int) -> None:
        self._rng = random.Random(seed)
        self._entries = entries
        self._concepts = [e for e in entries if e.is_concept]
        self._others = [e for e in entries if not e.is_concept]
        self._single_words = {
            language: [e for e in entries if " " not in e.labels[language][0]] for language in _LANGUAGES
        }
        self._unseen = _unseen_keys()
        self._shown = [e for e in entries if e.examples]
        self._kinds = {
            self._translate: 6.0,
            self._translate_words: 3.0,
            self._gloss: 0.5,
            self._define: 1.5,
            self._name_what_is_defined: 1.5,
            self._same_meaning: 2.5,
            self._fitting_definition: 2.5,
            self._give_example: 0.5,
            self._recognise_example: 0.5,
            self._say_where: 0.5,
        }

    def __iter__(self) -> Iterator[Line]:
        kinds, weights = list(self._kinds), list(self._kinds.values())
        while True:
            yield self._rng.choices(kinds, weights)[0]()

    def _any(self) -> Entry:
        """Return an entry; concepts, of which there are fewer, come up more often than words and phrases."""
        return self._rng.choice(self._concepts if self._rng.random() < _SHARE_OF_CONCEPTS else self._others)

    def _any_defined(self) -> Entry:
        while not (entry := self._any()).definitions:
            pass
        return entry

    def _language(self) -> str:
        return self._rng.choice(_LANGUAGES)

    def _target(self) -> str:
        return "English" if self._rng.random() < 0.5 else self._language()

    def _field(self, entry: Entry) -> str:
        """Return a label as it stands in the wild, in quotation marks."""
        language = self._language()
        names = entry.labels[language]
        if language == "English" and entry.abbreviations and self._rng.random() < 0.2:
            names = entry.abbreviations
        return f'{language} field: "{draw_form(self._rng.choice(names), language, self._rng)}"'

    def _neighbour(self, entry: Entry) -> Entry:
        """Return another entry, half the time one that shares a word with `entry`, so that the words must be read."""
        words = set(entry.labels["English"][0].split())
        near = [e for e in self._rng.sample(self._entries, 60) if words & set(e.labels["English"][0].split())]
        return self._rng.choice(near) if near and self._rng.random() < 0.5 else self._any()

    def _translate(self) -> Line:
        entry, target = self._any(), self._target()
        return _dialogue(f"In {target}?", self._field(entry), entry.labels[target][0])

    def _translate_words(self) -> Line:
        """Ask about a label put together from words drawn at random: it must be read word by word."""
        language, target = self._language(), self._target()
        entries = self._rng.sample(self._single_words[language], self._rng.choice((2, 2, 3)))
        label = " ".join(e.labels[language][0] for e in entries)
        if fold_label(label) in self._unseen:
            return self._translate_words()
        words = ", ".join(e.labels[target][0] for e in entries)
        form = draw_form(label, language, self._rng)
        return _dialogue(f"In {target}, word by word?", f'{language} field: "{form}"', words)

    def _gloss(self) -> Line:
        entry, languages = self._any(), self._rng.sample(_LANGUAGES, 4)
        return Line(
            "", "; ".join(f"{name}: {self._rng.choice(entry.labels[name])}" for name in languages) + "<|endoftext|>"
        )

    def _define(self) -> Line:
        entry = self._any_defined()
        return _dialogue("What does it mean?", self._field(entry), self._rng.choice(entry.definitions))

    def _name_what_is_defined(self) -> Line:
        entry, target = self._any_defined(), self._target()
        return _dialogue(
            f"What is it called in {target}?", self._rng.choice(entry.definitions), entry.labels[target][0]
        )

    def _same_meaning(self) -> Line:
        entry = self._any()
        other = entry if self._rng.random() < 0.5 else self._neighbour(entry)
        same = "yes" if other is entry else "no"
        return _dialogue("The same?", f"{self._field(entry)}, {self._field(other)}", same)

    def _fitting_definition(self) -> Line:
        entry = self._any_defined()
        other = entry if self._rng.random() < 0.5 else self._neighbour(entry)
        while not other.definitions:
            other = self._neighbour(entry)
        fits = "yes" if other is entry else "no"
        return _dialogue("Is this what it means?", f"{self._field(entry)}, {self._rng.choice(other.definitions)}", fits)

    def _give_example(self) -> Line:
        entry = self._rng.choice(self._shown)
        return _dialogue("For example?", self._field(entry), self._rng.choice(entry.examples))

    def _recognise_example(self) -> Line:
        entry, target = self._rng.choice(self._shown), self._target()
        return _dialogue(f"What is this, in {target}?", self._rng.choice(entry.examples), entry.labels[target][0])

    def _say_where(self) -> Line:
        entry = self._rng.choice(self._shown)
        return _dialogue("Where does it stand?", self._field(entry), self._rng.choice(entry.places))


_LANGUAGES = list(LANGUAGE_OF.values())
_SHARE_OF_CONCEPTS = 0.4


def _dialogue(task: str, given: str, answer: str) -> Line:
    head = f"<|im_start|>system\n{task}<|im_end|>\n<|im_start|>user\n{given}<|im_end|>\n<|im_start|>assistant\n"
    return Line(head, f"{answer}<|im_end|>\n")


def main() -> None:
    """Print a sample of the text."""
    lines = iter(TextGenerator(read_entries(), seed=0))
    for _ in range(40):
        line = next(lines)
        print(line.given + line.learned)


if __name__ == "__main__":
    main()
