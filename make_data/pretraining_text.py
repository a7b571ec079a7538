"""The text the embedded base is pretrained on: what labels mean and how they are said in eight languages.

A base model from a hub knows what words mean and has never been asked our question. So does this one: its text holds
translations, definitions, example values and places, and neither the question's wording nor any answer to it.
Run as a program, it prints a sample.
"""

import csv
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from make_data.forms import draw_form
from make_data.glossary import DATA, GLOSSARY, LANGUAGE_OF, UNSEEN_GLOSSARY, read_glossary, split_cell
from pii_finetune.labels import fold_label, spell_out

KNOWLEDGE = DATA / "pretraining" / "knowledge.csv"
LEXICON = DATA / "pretraining" / "lexicon.csv"
PHRASES = DATA / "pretraining" / "phrases.csv"
FIELDS = DATA / "pretraining" / "fields.csv"

Labels = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Entry:
    """A concept of the glossary or something outside it, as far as the pretraining text may know it."""

    name: str
    kind: str  # concept, field, word or phrase
    labels: Labels  # language name -> labels
    abbreviations: tuple[str, ...]
    definitions: tuple[str, ...]  # phrases have none
    examples: tuple[str, ...]  # neither words nor phrases nor some concepts have examples and places
    places: tuple[str, ...]


def read_entries() -> list[Entry]:
    """Return all entries; whatever outside the glossary is a label of an unseen concept is left out."""
    unseen = _unseen_keys()
    with KNOWLEDGE.open(encoding="utf-8", newline="") as file:
        knowledge = {row["concept"]: row for row in csv.DictReader(file)}
    concepts = [
        Entry(
            concept.name,
            "concept",
            concept.labels,
            concept.abbreviations,
            *(split_cell(knowledge[concept.name][column]) for column in ("definitions", "examples", "places")),
        )
        for concept in read_glossary(GLOSSARY)
    ]
    others = [*_read_others(LEXICON, "word"), *_read_others(PHRASES, "phrase"), *_read_others(FIELDS, "field")]
    return concepts + [
        e for e in others if not unseen & {fold_label(label) for labels in e.labels.values() for label in labels}
    ]


def _unseen_keys() -> set[str]:
    return {
        fold_label(label) for c in read_glossary(UNSEEN_GLOSSARY) for labels in c.labels.values() for label in labels
    }


def _read_others(path: Path, kind: str) -> Iterator[Entry]:
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            labels = {language: split_cell(row[code]) for code, language in LANGUAGE_OF.items()}
            known = (split_cell(row.get(column, "")) for column in ("definitions", "examples", "places"))
            yield Entry(row[kind], kind, labels, (), *known)


@dataclass(frozen=True)
class Line:
    """One line of text: the model reads `given` and learns to write `learned` (and so do all loss figures)."""

    given: str
    learned: str


@dataclass(frozen=True)
class Pair:
    """Two dialogues up to the answer, about one thing."""

    thing: str
    first: str
    second: str


class TextGenerator:
    """Draws lines for ever; the same seed draws the same lines.

    Most lines are dialogues: the system turn sets a task, the user turn holds fields, the assistant solves it.
    """

    def __init__(self, entries: list[Entry], seed: int, shares: Mapping[str, float] | None = None) -> None:
        self._rng = random.Random(seed)
        self._shares = dict(shares or SHARES)
        self._entries = entries
        self._of_kind = {kind: [e for e in entries if e.kind == kind] for kind in self._shares}
        self._single_words = {
            language: [e for e in entries if " " not in e.labels[language][0]] for language in _LANGUAGES
        }
        self._unseen = _unseen_keys()
        self._shown = [e for e in entries if e.examples]
        self._with_word: dict[str, list[Entry]] = defaultdict(list)
        for entry in entries:
            for word in _english_words(entry):
                self._with_word[word].append(entry)
        self._word_in_english = {e.labels["English"][0]: e for e in self._single_words["English"]}
        self._kinds = {
            self._translate: 4.0,
            self._translate_words: 5.0,
            self._gloss: 0.5,
            self._define: 1.5,
            self._name_what_is_defined: 2.5,
            self._same_meaning: 5.0,
            self._fitting_definition: 5.0,
            self._about: 4.0,
            self._give_example: 0.5,
            self._recognise_example: 0.5,
            self._say_where: 0.5,
        }

    def draw_pair(self) -> Pair:
        """Return one thing said twice: words in two languages, a label and what is told of it, or two labels."""
        kind = self._rng.choices(list(PAIR_SHARES), list(PAIR_SHARES.values()))[0]
        if kind == "words":
            return self._words_in(*self._rng.sample(_LANGUAGES, 2))
        if kind == "told":
            entry = self._any_defined()
            return self._pair(entry.name, self._field(entry), self._told(entry))
        entry = self._any()
        return self._pair(entry.name, self._field(entry), self._field(entry))

    def _told(self, entry: Entry) -> str:
        """Return one to three of the definitions, examples and places of `entry`."""
        told = [*entry.definitions, *entry.examples, *entry.places]
        return "; ".join(self._rng.sample(told, min(len(told), self._rng.randint(1, 3))))

    def _words_in(self, first: str, second: str) -> Pair:
        """Return two or three words at random, and the same words in another language or what each of them means."""
        entries = self._rng.sample(self._single_words[first], self._rng.choice((2, 2, 3)))
        said = [" ".join(e.labels[language][0] for e in entries) for language in (first, second)]
        if any(fold_label(label) in self._unseen for label in said):
            return self._words_in(first, second)
        fields = [self._quote(label, language) for label, language in zip(said, (first, second), strict=True)]
        if all(e.definitions for e in entries) and self._rng.random() < 0.5:
            fields[1] = "; ".join(self._rng.choice(e.definitions) for e in entries)
        return self._pair(said[0], *fields)

    def _pair(self, thing: str, *given: str) -> Pair:
        """Put both after system turns drawn at random, so that what is meant does not depend on the task."""
        defined = (self._rng.choice(self._any_defined().definitions) for _ in given)
        return Pair(thing, *(_ask(task, said) for task, said in zip(defined, given, strict=True)))

    def __iter__(self) -> Iterator[Line]:
        kinds, weights = list(self._kinds), list(self._kinds.values())
        while True:
            yield self._rng.choices(kinds, weights)[0]()

    def _any(self) -> Entry:
        """Return an entry; concepts and fields, of which there are fewer, come up more often than words and phrases."""
        return self._rng.choice(self._of_kind[self._rng.choices(list(self._shares), list(self._shares.values()))[0]])

    def _any_defined(self) -> Entry:
        while not (entry := self._any()).definitions:
            pass
        return entry

    def _language(self) -> str:
        return self._rng.choice(_LANGUAGES)

    def _target(self) -> str:
        return "English" if self._rng.random() < 0.5 else self._language()

    def _field(self, entry: Entry, language: str | None = None) -> str:
        """Return a label in quotation marks, in one of its forms, spelled out as the prompt spells it."""
        language = language or self._language()
        names = entry.labels[language]
        if language == "English" and entry.abbreviations and self._rng.random() < 0.2:
            names = entry.abbreviations
        return self._quote(self._rng.choice(names), language)

    def _quote(self, label: str, language: str) -> str:
        return f'{language} field: "{_spelled(draw_form(label, language, self._rng))}"'

    def _neighbour(self, entry: Entry) -> Entry:
        """Return another entry, half the time one that shares a word with `entry`, so that the words must be read."""
        if self._rng.random() < 0.5 and (words := sorted(_english_words(entry))):
            near = self._rng.choice(self._with_word[self._rng.choice(words)])
            if near is not entry:
                return near
        return self._any()

    def _translate(self) -> Line:
        entry, target = self._any(), self._target()
        return _dialogue(f"In {target}?", self._field(entry), _spelled(entry.labels[target][0]))

    def _translate_words(self) -> Line:
        """Ask about a label put together from words drawn at random: it must be read word by word."""
        language, target = self._language(), self._target()
        entries = self._rng.sample(self._single_words[language], self._rng.choice((2, 2, 3)))
        label = " ".join(e.labels[language][0] for e in entries)
        if fold_label(label) in self._unseen:
            return self._translate_words()
        words = ", ".join(_spelled(e.labels[target][0]) for e in entries)
        return _dialogue(f"In {target}, word by word?", self._quote(label, language), words)

    def _gloss(self) -> Line:
        entry, languages = self._any(), self._rng.sample(_LANGUAGES, 4)
        said = (f"{name}: {_spelled(self._rng.choice(entry.labels[name]))}" for name in languages)
        return Line("", "; ".join(said) + "<|endoftext|>")

    def _define(self) -> Line:
        entry = self._any_defined()
        return _dialogue("What does it mean?", self._field(entry), self._rng.choice(entry.definitions))

    def _name_what_is_defined(self) -> Line:
        entry, target = self._any_defined(), self._target()
        return _dialogue(
            f"What is it called in {target}?", self._rng.choice(entry.definitions), _spelled(entry.labels[target][0])
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

    def _about(self) -> Line:
        """Ask whether a word, in any language, is part of what the label says."""
        entry = self._any()
        words = _english_words(entry)
        asked = entry if words and self._rng.random() < 0.5 else self._neighbour(entry)
        while not (candidates := sorted(_english_words(asked) - (frozenset() if asked is entry else words))):
            asked = self._any()
        word = self._rng.choice(candidates)
        if word in self._word_in_english:
            word = _spelled(self._word_in_english[word].labels[self._target()][0])
        return _dialogue(f'About "{word}"?', self._field(entry), "yes" if asked is entry else "no")

    def _give_example(self) -> Line:
        entry = self._rng.choice(self._shown)
        return _dialogue("For example?", self._field(entry), self._rng.choice(entry.examples))

    def _recognise_example(self) -> Line:
        entry, target = self._rng.choice(self._shown), self._target()
        example = self._rng.choice(entry.examples)
        return _dialogue(f"What is this, in {target}?", example, _spelled(entry.labels[target][0]))

    def _say_where(self) -> Line:
        entry = self._rng.choice(self._shown)
        return _dialogue("Where does it stand?", self._field(entry), self._rng.choice(entry.places))


_LANGUAGES = list(LANGUAGE_OF.values())
SHARES = {  # of the kinds of entries
    "concept": 0.3,
    "field": 0.3,
    "word": 0.25,
    "phrase": 0.15,
}
PAIR_SHARES = {"words": 0.2, "told": 0.5, "labels": 0.3}
_SMALL_WORDS = {"a", "an", "and", "at", "by", "for", "from", "in", "of", "on", "or", "per", "s", "the", "to", "with"}


_spelled = lru_cache(maxsize=200_000)(spell_out)


@cache
def _english_words(entry: Entry) -> frozenset[str]:
    return frozenset(_spelled(entry.labels["English"][0]).split()) - _SMALL_WORDS


def _dialogue(task: str, given: str, answer: str) -> Line:
    return Line(_ask(task, given), f"{answer}<|im_end|>\n")


def _ask(task: str, given: str) -> str:
    return f"<|im_start|>system\n{task}<|im_end|>\n<|im_start|>user\n{given}<|im_end|>\n<|im_start|>assistant\n"


def main() -> None:
    """Print a sample of the text."""
    lines = iter(TextGenerator(read_entries(), seed=0))
    for _ in range(40):
        line = next(lines)
        print(line.given + line.learned)


if __name__ == "__main__":
    main()
