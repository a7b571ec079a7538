"""What the owner of a valid workbook should look at: nothing here is an error, and nothing stops a run."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import nsmallest

import numpy as np
import pandas as pd

from pii_finetune.advice_expectations import advice_expectations
from pii_finetune.advice_facts import Facts, gather
from pii_finetune.checkpoint import Checkpoint, Failure
from pii_finetune.records import Record
from pii_finetune.row_place import Place

_NUM_LISTED = 50  # rows; all are counted in the message, but nobody reads a thousand


@dataclass(frozen=True)
class Advice:
    """One finding; `rows` are numbers of the sheet, most suspicious first, empty where no single row is at fault."""

    kind: str
    message: str
    rows: tuple[Place, ...] = ()
    details: tuple[str, ...] = ()  # one a row; where there are no rows, one a language
    severity: str = "warning"  # or info: nothing is wrong


def advise(
    records: Sequence[Record], seed: int, copies: Sequence[Record] = (), checkpoint: Checkpoint | None = None
) -> tuple[Advice, ...]:
    """Return what was found in at least one record.

    Args:
        records: the rows that are used.
        seed: decides the folds and, of a big workbook, the sample.
        copies: rows left out as exact copies of a row above.
        checkpoint: runs the suite; it is given where its Data Docs are to show the advice.
    """
    facts = gather(records, copies, seed)
    suite = advice_expectations(len(records))
    failures = (checkpoint or Checkpoint()).run("advice", suite, facts.table)
    return tuple(_advice(failure, facts) for failure in failures)


def _advice(failure: Failure, facts: Facts) -> Advice:
    name, severity = failure.expectation.name, failure.expectation.severity
    if failure.error:
        return Advice(name, f"could not be checked: {failure.error}", severity=severity)
    at = facts.table.index.get_indexer(pd.Index(failure.rows)).tolist()
    counts, rows, details = _FINDINGS[name](facts, at)
    more = f" (the first {_NUM_LISTED} are listed)" if rows and len(at) > _NUM_LISTED else ""
    return Advice(name, failure.expectation.message.format(**counts) + more, rows, details, severity)


# Of one expectation: what fills the places of its message, the rows to list, and what is wrong with each. Functions get
# the lines of the table that fail.
_Finding = tuple[dict[str, str], tuple[Place, ...], tuple[str, ...]]


def _class_balance(facts: Facts, _lines: list[int]) -> _Finding:
    num, rarer = _rarer(np.array([r.sensitive for r in facts.records]))
    return {"part": _part(num, len(facts.records)), "rarer": rarer}, (), ()


def _language_balance(facts: Facts, lines: list[int]) -> _Finding:
    details = []
    for line in lines:
        answers = facts.column("is_sensitive")[facts.column("language") == facts.column("language")[line]]
        num, rarer = _rarer(answers)
        details.append(f"{facts.records[line].language}: {_part(num, len(answers))} are marked {rarer}")
    return {"languages": _count(len(details), "language")}, (), tuple(sorted(details))


def _language_coverage(facts: Facts, lines: list[int]) -> _Finding:
    counts = sorted((int(facts.column("language_rows")[line]), facts.records[line].language) for line in lines)
    details = tuple(f"{language}: {_part(num, len(facts.records))}" for num, language in counts)
    return {"languages": _count(len(details), "language")}, (), details


def _spelled_alike(facts: Facts, lines: list[int]) -> _Finding:
    alike, contrary, spelling = (facts.column(name) for name in ("alike", "contrary", "spelling"))

    def outvoted(line: int) -> tuple:
        record = facts.records[line]
        share = alike[line] / (alike[line] + contrary[line])
        return share, record.language, facts.spellings[int(spelling[line])], record.row

    def why(line: int) -> str:
        return f"spelled as {_are(int(contrary[line]))} marked {_other(facts.records[line])}"

    return {"rows": _are(len(lines))}, *_list_rows(facts.records, nsmallest(_NUM_LISTED, lines, key=outvoted), why)


def _across_languages(facts: Facts, lines: list[int]) -> _Finding:
    alike, contrary = facts.column("languages_alike"), facts.column("answers_in_other_languages")
    spelling, answers = facts.column("spelling"), facts.column("answers_of_spelling")

    def outvoted(line: int) -> tuple:
        record = facts.records[line]
        share = alike[line] / (alike[line] + contrary[line])
        return share, facts.spellings[int(spelling[line])], record.language, record.row

    listed = nsmallest(_NUM_LISTED, lines, key=outvoted)
    languages: dict[tuple[float, bool], set[str]] = {}
    for line in np.flatnonzero(np.isin(spelling, spelling[listed]) & (answers == 1)).tolist():
        record = facts.records[line]
        languages.setdefault((spelling[line], record.sensitive), set()).add(record.language)

    def why(line: int) -> str:
        record = facts.records[line]
        others = languages[spelling[line], not record.sensitive]
        return f"marked {_other(record)} in {', '.join(sorted(others))}"

    return {"rows": _are(len(lines))}, *_list_rows(facts.records, listed, why)


def _near_duplicates(facts: Facts, lines: list[int]) -> _Finding:
    num = int(facts.table[["spelling", "language"]].iloc[lines].duplicated().sum())
    return {"part": _part(num, len(facts.records))}, (), ()


def _exact_duplicates(facts: Facts, lines: list[int]) -> _Finding:
    copies = [line - len(facts.records) for line in lines[:_NUM_LISTED]]
    return {"rows": _are(len(lines))}, *_list_rows(facts.copies, copies, lambda _: "as in a row above")


def _orders(facts: Facts, lines: list[int]) -> _Finding:
    return {"rows": _are(len(lines))}, *_list_rows(facts.records, lines[:_NUM_LISTED], lambda _: "worded as an order")


def _suspected_answers(facts: Facts, lines: list[int]) -> _Finding:
    probability = facts.column("answer_probability")
    num_rows, num_checked = len(facts.records), int(np.isfinite(probability).sum())
    checked = f"{num_rows} rows"
    if num_checked < num_rows:
        checked = f"a random sample of {num_checked} of the {num_rows} rows"

    def why(line: int) -> str:
        return f"the baseline says {_other(facts.records[line])} with {1 - probability[line]:.2f}"

    listed = nsmallest(_NUM_LISTED, lines, key=lambda line: (probability[line], line))
    return {"checked": checked, "answers": _count(len(lines), "answer")}, *_list_rows(facts.records, listed, why)


_FINDINGS: dict[str, Callable[[Facts, list[int]], _Finding]] = {
    "class_balance": _class_balance,
    "language_balance": _language_balance,
    "language_coverage": _language_coverage,
    "spelled_alike": _spelled_alike,
    "across_languages": _across_languages,
    "near_duplicates": _near_duplicates,
    "exact_duplicates": _exact_duplicates,
    "orders": _orders,
    "suspected_answers": _suspected_answers,
}


def _list_rows(
    records: Sequence[Record], lines: Iterable[int], why: Callable[[int], str]
) -> tuple[tuple[Place, ...], tuple[str, ...]]:
    listed = [(records[line], why(line)) for line in lines]
    return (
        tuple(record.row for record, _ in listed),
        tuple(f"{record.label} ({record.language}): marked {record.answer}, {reason}" for record, reason in listed),
    )


def _rarer(sensitive: np.ndarray) -> tuple[int, str]:
    num_yes = int(sensitive.sum())
    return min((num_yes, "yes"), (len(sensitive) - num_yes, "no"))


def _part(num: int, total: int) -> str:
    return f"{num} of {total} rows ({100 * num / total:.1f} %)"


def _count(num: int, noun: str) -> str:
    return f"1 {noun} has" if num == 1 else f"{num} {noun}s have"


def _are(num: int) -> str:
    return "1 row is" if num == 1 else f"{num} rows are"


def _other(record: Record) -> str:
    return "no" if record.sensitive else "yes"
