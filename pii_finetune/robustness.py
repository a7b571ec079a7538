"""Whether a model keeps its answer when a label is only written differently."""

import math
import re
import unicodedata
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from pii_finetune.labels import CAMEL, TECHNICAL_PREFIXES, spell_out
from pii_finetune.records import Record
from pii_finetune.scores import Question, Scores

KINDS = ("case", "separators", "diacritics", "technical prefix", "table name", "typo")
MAX_EXAMPLES = 5
_NEUTRAL_TABLES = ("archive", "data", "dwh", "export", "import", "legacy", "main", "staging")
_SHORTEST_WITH_TYPO = 5  # letters: one wrong letter of four can make another word
_BETWEEN_WORDS = re.compile(r"[\s_-]+")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")  # driver's is one
_COMBINING = re.compile("[\u0300-\u036f]")  # accents on Latin, Greek and Cyrillic letters; no vowel signs


@dataclass(frozen=True)
class Variant:
    """A label written differently."""

    kind: str
    at: int  # index of the record it comes from
    label: str


@dataclass(frozen=True)
class Flip:
    """A label and a variant of it that the model answers differently, with P(yes) of both."""

    label: str
    variant: str
    language: str
    probability: float
    variant_probability: float


@dataclass(frozen=True)
class FlipRate:
    """What one kind of change does to a model's answers."""

    num_variants: int
    num_spelled_anew: int  # variants that `spell_out` does not undo: the others are the original's own question
    share: float  # of all variants that are answered differently from their original, in [0, 1]; NaN without variants
    examples: tuple[Flip, ...]  # at most MAX_EXAMPLES, those first in which P(yes) changes most


def perturb(records: Sequence[Record], seed: int, kinds: Sequence[str] = KINDS) -> tuple[Variant, ...]:
    """Return the variants of every record, of the kinds named; none is equal to its original.

    A label has variants only of the kinds that apply to its script. They depend on the label and the seed alone.
    """
    return tuple(
        Variant(kind, at, label)
        for at, record in enumerate(records)
        for kind in kinds
        for label in dict.fromkeys(_CHANGES[kind](record.label, _rng(kind, record.label, seed)))
        if label not in ("", record.label)
    )


def flip_rates(
    model: Callable[[Sequence[Question]], Scores],
    records: Sequence[Record],
    seed: int,
    kinds: Sequence[str] = KINDS,
) -> dict[str, FlipRate]:
    """Ask the model once about all originals and variants, no question twice; return a rate for each kind.

    A model that is asked through `spell_out` is put the same question for nearly all changes of case and separators and
    for technical prefixes: that it does not flip there is by construction. `num_spelled_anew` says how many could flip.
    """
    variants = perturb(records, seed, kinds)
    originals: list[Question] = [(r.label, r.language) for r in records]
    written: list[Question] = [(v.label, records[v.at].language) for v in variants]
    questions = {question: number for number, question in enumerate(dict.fromkeys([*originals, *written]))}
    scores = model(list(questions))
    before = np.array([questions[originals[v.at]] for v in variants], dtype=int)
    after = np.array([questions[each] for each in written], dtype=int)
    flipped = scores.answers[before] != scores.answers[after]
    moved = np.abs(scores.probability[after] - scores.probability[before])

    def rate(kind: str) -> FlipRate:
        members = [number for number, variant in enumerate(variants) if variant.kind == kind]
        shown = sorted((n for n in members if flipped[n]), key=lambda n: -moved[n])[:MAX_EXAMPLES]
        return FlipRate(
            num_variants=len(members),
            num_spelled_anew=sum(spell_out(written[n][0]) != spell_out(records[variants[n].at].label) for n in members),
            share=float(flipped[members].mean()) if members else math.nan,
            examples=tuple(
                Flip(
                    records[variants[n].at].label,
                    variants[n].label,
                    records[variants[n].at].language,
                    float(scores.probability[before[n]]),
                    float(scores.probability[after[n]]),
                )
                for n in shown
            ),
        )

    return {kind: rate(kind) for kind in kinds}


def _rng(kind: str, label: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(f"{kind} {label}".encode())])


def _change_case(label: str, _: np.random.Generator) -> list[str]:
    return [label.upper(), label.lower(), _WORD.sub(lambda word: word.group().capitalize(), label)]


def _change_separators(label: str, _: np.random.Generator) -> list[str]:
    words = _words(label)
    if len(words) < 2:
        return []
    joined = [" ".join(words), "_".join(words), "-".join(words)]
    first, *rest = words
    if all(word[0].isdigit() or _is_cased(word[0]) for word in rest):  # without capitals nothing would part the words
        joined.append(first.lower() + "".join(word.capitalize() for word in rest))
    return joined


def _strip_diacritics(label: str, _: np.random.Generator) -> list[str]:
    return [unicodedata.normalize("NFC", _COMBINING.sub("", unicodedata.normalize("NFD", label)))]


def _add_prefix(label: str, rng: np.random.Generator) -> list[str]:
    return [f"{rng.choice(TECHNICAL_PREFIXES)}_{'_'.join(words)}" for words in _without_table(label)]


def _add_table(label: str, rng: np.random.Generator) -> list[str]:
    return [f"{rng.choice(_NEUTRAL_TABLES)}.{'_'.join(words)}" for words in _without_table(label)]


def _without_table(label: str) -> list[list[str]]:
    """Return the label's words, or nothing if it has none or a dot: that is how a label names its table."""
    words = _words(label)
    return [words] if words and "." not in label else []


def _mistype(label: str, rng: np.random.Generator) -> list[str]:
    """Swap, drop or double one letter beside another of the same case, so that no capital moves.

    Only letters that have a case: in Indic scripts a letter carries vowel signs, which would be left on another.
    """
    if sum(map(_is_cased, label)) < _SHORTEST_WITH_TYPO:
        return []
    typos = [
        typo
        for at, (one, other) in enumerate(pairwise(label))
        if (one.islower() and other.islower()) or (one.isupper() and other.isupper())
        for typo in (
            *([label[:at] + other + one + label[at + 2 :]] if one != other else []),
            label[: at + 1] + label[at + 2 :],
            label[: at + 1] + other + label[at + 1 :],
        )
    ]
    return [typos[rng.integers(len(typos))]] if typos else []


def _words(label: str) -> list[str]:
    """Split where a space, underscore, hyphen or capital parts words; dots and slashes say more than that and stay."""
    return [word for word in _BETWEEN_WORDS.split(CAMEL.sub(" ", label)) if word]


def _is_cased(letter: str) -> bool:
    return letter.lower() != letter.upper()


_CHANGES: dict[str, Callable[[str, np.random.Generator], list[str]]] = {
    "case": _change_case,
    "separators": _change_separators,
    "diacritics": _strip_diacritics,
    "technical prefix": _add_prefix,
    "table name": _add_table,
    "typo": _mistype,
}
