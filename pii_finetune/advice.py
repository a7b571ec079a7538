"""What the owner of a valid workbook should look at: nothing here is an error, and nothing stops a run."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pii_finetune.label_errors import MAX_PROBABILITY, LabelCheck, check_labels
from pii_finetune.labels import spell_out
from pii_finetune.records import Record

_MIN_SHARE = 0.20  # of the rarer answer among all rows
_MIN_SHARE_IN_LANGUAGE = 0.10
_MIN_ROWS = 20  # of a language
_MIN_LANGUAGE_SHARE = 0.01
_NUM_LISTED = 50  # rows; all are counted in the message, but nobody reads a thousand


@dataclass(frozen=True)
class Advice:
    """One finding; `rows` are numbers of the sheet, most suspicious first, empty where no single row is at fault."""

    kind: str
    message: str
    rows: tuple[int, ...] = ()
    details: tuple[str, ...] = ()  # one a row; where there are no rows, one a language


@dataclass(frozen=True)
class _Texts:
    """What the model reads of each row, and how often it reads it with which answer."""

    of_rows: list[str]
    counts: Counter[tuple[str, str, bool]]  # by language, spelling and answer
    contradictory: set[tuple[str, str]]  # languages and spellings with both answers


def advise(records: Sequence[Record], seed: int) -> tuple[Advice, ...]:
    """Return what was found in at least one record; `seed` decides the folds and, of a big workbook, the sample."""
    texts = _read(records)
    found = (
        _class_balance(records),
        _language_balance(records),
        _language_coverage(records),
        _spelled_alike(records, texts),
        _across_languages(records, texts),
        _near_duplicates(texts),
        _suspected_answers(check_labels(records, seed), len(records)),
    )
    return tuple(advice for advice in found if advice is not None)


def _read(records: Sequence[Record]) -> _Texts:
    of_rows = [spell_out(r.label) for r in records]
    counts = Counter((r.language, text, r.sensitive) for r, text in zip(records, of_rows, strict=True))
    contradictory = {
        (language, text) for language, text, sensitive in counts if sensitive and (language, text, False) in counts
    }
    return _Texts(of_rows, counts, contradictory)


def _class_balance(records: Sequence[Record]) -> Advice | None:
    num_yes = sum(r.sensitive for r in records)
    num, rarer = min((num_yes, "yes"), (len(records) - num_yes, "no"))
    if num >= _MIN_SHARE * len(records):
        return None
    return Advice(
        "class_balance",
        f"only {_part(num, len(records))} are marked {rarer}: a model that never says {rarer} would be nearly right, "
        f"so it learns too little of what makes a label {rarer}; add rows marked {rarer}",
    )


def _language_balance(records: Sequence[Record]) -> Advice | None:
    counts = Counter((r.language, r.answer) for r in records)
    details = []
    for language, num_rows in sorted(Counter(r.language for r in records).items()):
        num, rarer = min((counts[language, answer], answer) for answer in ("yes", "no"))
        if num_rows >= _MIN_ROWS and num < _MIN_SHARE_IN_LANGUAGE * num_rows:
            details.append(f"{language}: {_part(num, num_rows)} are marked {rarer}")
    if not details:
        return None
    return Advice(
        "language_balance",
        f"{_count(len(details), 'language')} nearly always one answer: the model can learn to answer from the language "
        "and not from the label; add rows of the other answer",
        details=tuple(details),
    )


def _language_coverage(records: Sequence[Record]) -> Advice | None:
    counts = Counter(r.language for r in records)
    details = tuple(
        f"{language}: {_part(num, len(records))}"
        for language, num in sorted(counts.items(), key=lambda item: (item[1], item[0]))
        if num < max(_MIN_ROWS, _MIN_LANGUAGE_SHARE * len(records))
    )
    if not details:
        return None
    return Advice(
        "language_coverage",
        f"{_count(len(details), 'language')} fewer than {_MIN_ROWS} rows or less than 1 % of all: too few to learn "
        "from and to measure by; add rows, or do not rely on the model there",
        details=details,
    )


def _spelled_alike(records: Sequence[Record], texts: _Texts) -> Advice | None:
    lines = []
    for record, text in zip(records, texts.of_rows, strict=True):
        if (record.language, text) not in texts.contradictory:
            continue
        same = texts.counts[record.language, text, record.sensitive]
        other = texts.counts[record.language, text, not record.sensitive]
        outvoted = same / (same + other), record.language, text, record.row
        lines.append((outvoted, record, f"spelled as {_are(other)} marked {_other(record)}"))
    return _list_rows(
        "spelled_alike",
        f"{_are(len(lines))} spelled as another row of the same language with the other answer: the model reads them "
        "as one text and cannot learn both; decide which answer is right and make the rows agree",
        lines,
    )


def _across_languages(records: Sequence[Record], texts: _Texts) -> Advice | None:
    """List rows whose text has the other answer elsewhere; those told of as spelled alike are not told again."""
    languages: dict[tuple[str, bool], list[str]] = {}
    for language, text, sensitive in texts.counts:
        if (language, text) not in texts.contradictory:
            languages.setdefault((text, sensitive), []).append(language)
    lines = []
    for record, text in zip(records, texts.of_rows, strict=True):
        other = languages.get((text, not record.sensitive))
        if other is None or (record.language, text) in texts.contradictory:
            continue
        same = len(languages[text, record.sensitive])
        outvoted = same / (same + len(other)), text, record.language, record.row
        lines.append((outvoted, record, f"marked {_other(record)} in {', '.join(sorted(other))}"))
    return _list_rows(
        "across_languages",
        f"for information: {_are(len(lines))} spelled as a row of another language with the other answer, which is "
        "right only if the word means something else there; check that it does",
        lines,
    )


def _near_duplicates(texts: _Texts) -> Advice | None:
    num_texts = len(texts.counts) - len(texts.contradictory)
    num = len(texts.of_rows) - num_texts
    if num == 0:
        return None
    return Advice(
        "near_duplicates",
        f"for information: {_part(num, len(texts.of_rows))} only write again, in another way, what another row of the "
        "same language says: the model reads both as one text and learns little from the second; "
        "prefer rows with other labels",
    )


def _suspected_answers(check: LabelCheck | None, num_rows: int) -> Advice | None:
    if check is None:
        return None
    checked = f"{num_rows} rows"
    if check.num_checked < num_rows:
        checked = f"a random sample of {check.num_checked} of the {num_rows} rows"
    lines = [
        (at, s.record, f"the baseline says {_other(s.record)} with {1 - s.probability:.2f}")
        for at, s in enumerate(check.suspected)
    ]
    return _list_rows(
        "suspected_answers",
        f"in {checked}, {_count(len(lines), 'answer')} less than {100 * MAX_PROBABILITY:.0f} % probability by what a "
        "character n-gram baseline learns from the other rows: some are hard, some are mistakes, and a mistake teaches "
        "the model wrong; check them from the top",
        lines,
    )


def _list_rows(kind: str, message: str, lines: list[tuple]) -> Advice | None:
    """Return the advice with the first rows by sort key; `lines` holds keys, records and what is wrong with each."""
    if not lines:
        return None
    listed = sorted(lines, key=lambda line: line[0])[:_NUM_LISTED]
    more = f" (the first {_NUM_LISTED} are listed)" if len(lines) > _NUM_LISTED else ""
    return Advice(
        kind,
        message + more,
        tuple(record.row for _, record, _ in listed),
        tuple(f"{record.label} ({record.language}): marked {record.answer}, {why}" for _, record, why in listed),
    )


def _part(num: int, total: int) -> str:
    return f"{num} of {total} rows ({100 * num / total:.1f} %)"


def _count(num: int, noun: str) -> str:
    return f"1 {noun} has" if num == 1 else f"{num} {noun}s have"


def _are(num: int) -> str:
    return "1 row is" if num == 1 else f"{num} rows are"


def _other(record: Record) -> str:
    return "no" if record.sensitive else "yes"
