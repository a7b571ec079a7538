"""Judging the rows of a workbook: what is wrong in which rows, and the records that can be used."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from pii_finetune.advice import Advice, advise
from pii_finetune.checkpoint import Checkpoint, Failure
from pii_finetune.cleaning import clean
from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError
from pii_finetune.excerpts import point_out
from pii_finetune.expectations import label_expectations
from pii_finetune.languages import canonical_language
from pii_finetune.records import Record, fingerprint
from pii_finetune.row_place import FileRows, Place, list_places, place_of
from pii_finetune.workbook import Table

_NUM_EXCERPTS = 1_000  # cells of one problem whose content is kept
_NUM_IN_LINE = 3  # of them in a line of text
_NUM_SHOWN = 100  # bad rows listed in a message
# The column of the workbook that a column made to be judged by is about; the others are named after theirs.
_ABOUT = {"label_script": "label", "label_token": "label", "label_language_answers": "sensitive"}


@dataclass(frozen=True)
class Problem:
    """One expectation that failed, by its name: in which rows, why that matters and what to do."""

    expectation: str
    column: str
    rows: tuple[Place, ...]  # empty: the table as a whole
    message: str
    found: tuple[str, ...] = ()  # escaped excerpts of the first cells, one a row


@dataclass(frozen=True)
class Verdict:
    """What Great Expectations found, as far as it is not in the rows themselves."""

    problems: tuple[Problem, ...]
    dropped: tuple[Problem, ...]
    num_expectations: int
    advice: tuple[Advice, ...]
    docs: Path | None


@dataclass(frozen=True)
class ValidationReport:
    """What is in the workbook and what is wrong with it."""

    where: str  # the file and, if it has one, the sheet
    path: Path
    sheet: str  # empty: a file without sheets
    records: tuple[Record, ...]  # cleaned, without exact duplicates and dropped rows; none if there are problems
    problems: tuple[Problem, ...]
    dropped: tuple[Problem, ...]  # with data.on_bad_row = "drop": what the rows that were left out had
    num_rows: int
    num_cleaned: int  # labels that were changed by cleaning
    normalised: dict[str, int]  # what was put right by itself: how many cells
    notes: tuple[str, ...]
    copies: tuple[Record, ...]  # left out: exact copies of a row above
    extra_columns: tuple[str, ...]
    docs: Path | None  # index.html of the Data Docs
    num_expectations: int
    advice: tuple[Advice, ...] = ()  # what to look at, though it stops nothing

    @property
    def num_duplicates(self) -> int:
        """How many exact duplicates were left out."""
        return len(self.copies)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the normalised rows."""
        return fingerprint(self.records)

    def require_valid(self) -> "ValidationReport":
        """Return the report itself.

        Raises:
            BadWorkbookError: an expectation failed; the message names rows and remedies.
        """
        if not self.problems:
            return self
        lines = [f"{self.where}: {len(self.problems)} of {self.num_expectations} expectations failed"]
        lines += [f"  - {problem_line(problem)}" for problem in self.problems]
        raise BadWorkbookError("\n".join(lines))


def problem_line(problem: Problem) -> str:
    """Return one line naming column, rows, what was found there, and the remedy."""
    if not problem.rows:
        return problem.message
    shown = list_places(problem.rows[:_NUM_SHOWN])
    more = f" and {len(problem.rows) - _NUM_SHOWN:,} more" if len(problem.rows) > _NUM_SHOWN else ""
    found = ", ".join(dict.fromkeys(text for text in problem.found[:_NUM_IN_LINE] if text))
    cells = f" ({found})" if found else ""
    return (
        f"column {problem.column!r}, row{'s' if len(problem.rows) > 1 else ''} {shown}{more}{cells}: {problem.message}"
    )


def validate(
    table: Table, docs_folder: Path | None, config: DataConfig | None = None, advice_seed: int | None = None
) -> ValidationReport:
    """Check every row of the table against the expectations and write Data Docs into `docs_folder`, if given.

    With `on_bad_row = "drop"` rows that fail are left out, up to `max_dropped_share` of all, and the rest is checked
    again. With `advice_seed` rows that can be used are also judged for what is no error; see `advice.advise`.
    """
    cleaned, normalised = clean(table.rows)
    num_rows, num_cleaned = len(cleaned), _count_cleaned(table.rows, cleaned)
    suite = label_expectations()
    checkpoint = Checkpoint()
    failures = checkpoint.run("labels", suite, cleaned)
    failed = [_problem(failure, table.rows, num_rows) for failure in failures]
    problems, dropped = failed, list[Problem]()
    bad = {row for problem in problems for row in problem.rows}
    if bad and config is not None and _may_drop(len(bad) / num_rows, config):
        dropped = [problem for problem in failed if problem.rows]
        cleaned = cleaned.drop(index=list(bad))
        failures = Checkpoint().run("labels", suite, cleaned)
        problems = [_problem(failure, table.rows, len(cleaned)) for failure in failures]
    records, copies = ((), ()) if problems else _records(cleaned)
    del cleaned  # a million rows of it beside what the advice needs would be the peak of memory
    advice = advise(records, advice_seed, copies, checkpoint) if records and advice_seed is not None else ()
    told = {problem.expectation: problem.message for problem in failed} | {each.kind: each.message for each in advice}
    docs = None if docs_folder is None else checkpoint.write_docs(docs_folder, told, table.files)
    verdict = Verdict(tuple(problems), tuple(dropped), len(suite), advice, docs)
    report = _report(table, records, copies, num_cleaned, normalised, verdict)
    return _placed(report, table.files) if table.files else report


def judged_before(table: Table, verdict: Verdict) -> ValidationReport:
    """Return the report on a table whose rows were found valid before: the rows are made anew, they are not judged."""
    cleaned, normalised = clean(table.rows)
    num_cleaned = _count_cleaned(table.rows, cleaned)
    bad = {place for each in verdict.dropped for place in each.rows}
    dropped = [row for row in cleaned.index if place_of(int(row), table.files) in bad] if bad else []
    records, copies = (_called(kept, table.files) for kept in _records(cleaned.drop(index=dropped)))
    return _report(table, records, copies, num_cleaned, normalised, verdict)


def _report(
    table: Table,
    records: tuple[Record, ...],
    copies: tuple[Record, ...],
    num_cleaned: int,
    normalised: dict[str, int],
    verdict: Verdict,
) -> ValidationReport:
    return ValidationReport(
        where=table.where,
        path=table.path,
        sheet=table.sheet,
        records=records,
        problems=verdict.problems,
        dropped=verdict.dropped,
        num_rows=len(table.rows),
        num_cleaned=num_cleaned,
        normalised=normalised,
        notes=table.notes,
        copies=copies,
        extra_columns=table.extra_columns,
        docs=verdict.docs,
        num_expectations=verdict.num_expectations,
        advice=verdict.advice,
    )


def _called(records: Iterable[Record], files: Sequence[FileRows]) -> tuple[Record, ...]:
    """Return the records with rows called by their files."""
    return tuple(replace(record, row=place_of(int(record.row), files)) for record in records)


def _placed(report: ValidationReport, files: Sequence[FileRows]) -> ValidationReport:
    """Return the report with rows called by their files; until here they were told apart by number."""

    def move(rows: Iterable[Place]) -> tuple[Place, ...]:
        return tuple(place_of(int(row), files) for row in rows)

    return replace(
        report,
        records=_called(report.records, files),
        copies=_called(report.copies, files),
        problems=tuple(replace(each, rows=move(each.rows)) for each in report.problems),
        dropped=tuple(replace(each, rows=move(each.rows)) for each in report.dropped),
        advice=tuple(replace(each, rows=move(each.rows)) for each in report.advice),
    )


def _may_drop(share: float, config: DataConfig) -> bool:
    return config.on_bad_row == "drop" and share <= config.max_dropped_share


def _count_cleaned(rows: pd.DataFrame, cleaned: pd.DataFrame) -> int:
    return sum(
        kind == "text" and new is not None and raw != new
        for raw, new, kind in zip(rows["label"], cleaned["label"], rows["label_kind"], strict=True)
    )


def _records(valid: pd.DataFrame) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    """Return the rows to use, and those that are exact copies of one above."""
    is_copy = valid.duplicated(["label", "language"])

    def select(kept: pd.Series) -> tuple[Record, ...]:
        cells = valid.loc[kept, ["label", "language", "sensitive", "category"]].itertuples()
        return tuple(
            Record(label, language, answer == "yes", row, category) for row, label, language, answer, category in cells
        )

    return select(~is_copy), select(is_copy)


def _problem(failure: Failure, rows: pd.DataFrame, num_rows: int) -> Problem:
    expectation = failure.expectation
    column = str(expectation.arguments.get("column", ""))
    column = _ABOUT.get(column, column.removesuffix("_kind"))
    given = "1 row was" if num_rows == 1 else f"{num_rows:,} rows were"
    message = f"could not be checked: {failure.error}" if failure.error else expectation.message.format(given=given)
    return _with_excerpts(Problem(expectation.name, column, failure.rows, message), rows)


def _with_excerpts(problem: Problem, rows: pd.DataFrame) -> Problem:
    shown = problem.rows[:_NUM_EXCERPTS]
    if not shown:
        return problem
    cells = rows[rows["row"].isin(shown)]
    found = {
        row: point_out(text, problem.expectation, canonical_language(language or ""))
        for row, text, language in zip(cells["row"], cells[problem.column], cells["language"], strict=True)
    }
    return replace(problem, found=tuple(found.get(row, "") for row in shown))
