"""From rows in the ai4privacy format to labels with an answer.

Sensitive are the classes of the spans, and the words that introduce a span as a form does ("Telefonnummer: ...").
Not sensitive are frequent words of the same texts that never stand in a span or directly before one.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from pii_finetune.ai4privacy_classes import class_forms
from pii_finetune.ai4privacy_rows import Row, UnusableRowError, parse_row
from pii_finetune.errors import UserError
from pii_finetune.labels import clean_label, fold_label

_MAX_COUNTED = 1_000_000  # words and pairs a language; beyond it the rare half is forgotten, so memory stays bounded
_NUM_SHOWN = 5  # bad rows and fields named in a message
_MAX_INTRODUCTION = 60  # characters

# Python's \w has no vowel signs, without which words of Hindi, Telugu and others fall apart
_MARKS = "".join(chr(c) for c in range(0x300, 0x1E00) if unicodedata.category(chr(c))[0] == "M") + "\u200c\u200d"
_LETTER = rf"(?:[^\W\d_]|[{_MARKS}])"
_CHARACTER = rf"[\w{_MARKS}]"
_WORD = re.compile(rf"{_LETTER}+")
_TOKEN = re.compile(rf"{_CHARACTER}+(?:['’.@/-]+{_CHARACTER}+)*")  # e-mail and a.b.c are one token, and no word
_FORM_WORD = rf"[^\W\d_]{_CHARACTER}*(?:['’/-]{_CHARACTER}+)*"
_INTRODUCTION = re.compile(  # the sequence is whole: six words before a colon are a sentence, not a label of four
    rf"(?:^|[\n\t.,;:!?|•*()\[\]<>{{}}\"“”„«»]|\s[–—-])\s*({_FORM_WORD}(?:[ \u00a0]{_FORM_WORD}){{0,3}})"
    r"[ \u00a0]?[*_]*[:：][*_\"“„«(\[\s]*$"
)


@dataclass
class Words:
    """What the texts of one language hold; words and pairs of words are in lower case."""

    classes: set[str] = field(default_factory=set)
    introductions: set[str] = field(default_factory=set)  # as written
    counts: Counter[str] = field(default_factory=Counter)  # words and pairs outside spans
    before_spans: set[str] = field(default_factory=set)
    in_spans: set[str] = field(default_factory=set)  # single words
    values: set[str] = field(default_factory=set)  # whole values that could be taken for labels


@dataclass
class Harvest:
    """What all rows hold, by language, and what had to be mended or left out."""

    languages: defaultdict[str, Words] = field(default_factory=lambda: defaultdict(Words))
    num_rows: int = 0
    num_spans: int = 0
    num_corrected: int = 0
    num_not_found: int = 0
    bad_rows: Counter[str] = field(default_factory=Counter)  # by reason
    first_bad: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Choice:
    """Rows for the workbook, sorted, and how many candidates were left out because a sensitive label won."""

    rows: tuple[tuple[str, str, str], ...]
    num_conflicts: int
    num_values: int  # introductions left out because they are a value elsewhere ("Anna: ...")


def harvest(rows: Iterable[tuple[str, object]], source: str) -> Harvest:
    """Go once through rows, each with the place it stands at, and keep only words and counts.

    Raises:
        UserError: no row can be used.
    """
    found = Harvest()
    fields: dict[str, None] = {}
    for place, raw in rows:
        found.num_rows += 1
        try:
            row = parse_row(raw)
        except UnusableRowError as reason:
            found.bad_rows[str(reason)] += 1
            if len(found.first_bad) < _NUM_SHOWN:
                found.first_bad.append(f"{place}: {reason}")
                fields |= dict.fromkeys(map(str, raw)) if isinstance(raw, dict) else {}
            continue
        _add(row, found)
    if not found.languages:
        names = ", ".join(map(repr, fields)) or "none"
        problem = f"none of {found.num_rows:,} rows can be used" if found.num_rows else "has no rows"
        shown = "".join(f"\n  - {line}" for line in found.first_bad)
        raise UserError(
            f"{source}: {problem} (fields found: {names}); "
            f"a row needs privacy_mask, language, and source_text, unmasked_text or text{shown}"
        )
    return found


def choose(found: Harvest, min_count: int, negatives_per_positive: float) -> Choice:
    """Return the rows: all sensitive labels, and in each language the most frequent other words, as many as asked.

    The order of the rows does not matter, for words of equal frequency are taken by alphabet.

    Raises:
        UserError: one of the two answers would not occur.
    """
    positives = {language: set(_positives(words)) for language, words in found.languages.items()}
    taken = {fold_label(label) for labels in positives.values() for label in labels}
    negatives: dict[str, list[str]] = {}
    num_conflicts = 0
    for language, words in found.languages.items():
        wanted = round(negatives_per_positive * len(positives[language]))
        kept: dict[str, str] = {}
        for candidate in _candidates(words, min_count):
            if len(kept) >= wanted:
                break
            if {fold_label(candidate), *map(fold_label, candidate.split())} & taken:
                num_conflicts += 1
            else:
                kept.setdefault(fold_label(candidate), candidate)
        negatives[language] = list(kept.values())
    rows = sorted(
        (label, language, answer)
        for answer, labels_of in (("yes", positives), ("no", negatives))
        for language, labels in labels_of.items()
        for label in labels
    )
    num_no = sum(answer == "no" for *_, answer in rows)
    if not 0 < num_no < len(rows):
        raise UserError(
            f"the rows give {len(rows) - num_no:,} sensitive and {num_no:,} other labels, and both are needed; "
            "give more rows, a lower --min-count or a higher --negatives-per-positive"
        )
    num_values = sum(len(w.introductions) - len(_real_introductions(w)) for w in found.languages.values())
    return Choice(tuple(rows), num_conflicts, num_values)


def _positives(words: Words) -> Iterator[str]:
    for name in words.classes:
        yield from class_forms(name)
    yield from _real_introductions(words)


def _real_introductions(words: Words) -> set[str]:
    return {each for each in words.introductions if each.lower() not in words.values}


def _candidates(words: Words, min_count: int) -> Iterator[str]:
    before = {fold_label(each) for each in words.before_spans}
    inside = {fold_label(each) for each in words.in_spans}
    for candidate, count in sorted(words.counts.items(), key=lambda item: (-item[1], item[0])):
        if count < min_count:
            return
        if fold_label(candidate) not in before and not inside & set(map(fold_label, candidate.split())):
            yield candidate


def _add(row: Row, found: Harvest) -> None:
    words = found.languages[row.language]
    places: list[tuple[int, int]] = []
    for span in row.spans:
        words.classes.add(span.name)
        words.in_spans.update(clean_label(word).lower() for word in _WORD.findall(span.value))
        if len(span.value) <= _MAX_INTRODUCTION:
            words.values.add(clean_label(span.value).lower())
        if span.start is None or span.end is None:
            found.num_not_found += 1
        else:
            places.append((span.start, span.end))
        found.num_corrected += span.corrected
    found.num_spans += len(row.spans)
    end_of_last = 0
    for start, end in sorted(places):
        if start >= end_of_last:
            _add_between(row.text[end_of_last:start], words, after_span=end_of_last > 0, before_span=True)
        end_of_last = max(end_of_last, end)
    _add_between(row.text[end_of_last:], words, after_span=end_of_last > 0, before_span=False)
    if len(words.counts) > _MAX_COUNTED:
        words.counts = Counter(dict(words.counts.most_common(_MAX_COUNTED // 2)))


def _add_between(text: str, words: Words, *, after_span: bool, before_span: bool) -> None:
    """Take in the text between two spans, or between a span and an end of the row."""
    tokens = list(_TOKEN.finditer(text))
    if after_span and tokens and tokens[0].start() == 0:
        del tokens[0]  # the rest of a word that begins in the span
    singles = [clean_label(token.group()).lower() if _WORD.fullmatch(token.group()) else "" for token in tokens]
    pairs = [
        f"{one} {other}" if one and other and text[left.end() : right.start()] in (" ", "\u00a0") else ""
        for (left, right), (one, other) in zip(pairwise(tokens), pairwise(singles), strict=True)
    ]
    words.counts.update(each for each in (*singles, *pairs) if 3 <= len(each) <= 30)
    if not before_span:
        return
    words.before_spans.update(each for each in (*singles[-1:], *pairs[-1:]) if each)
    if (match := _INTRODUCTION.search(text[-3 * _MAX_INTRODUCTION :])) and len(match[1]) <= _MAX_INTRODUCTION:
        words.introductions.add(clean_label(match[1]))
        words.before_spans.update(clean_label(word).lower() for word in _WORD.findall(match[1]))
