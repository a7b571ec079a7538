"""Judging the rows with Great Expectations: the only module that knows it."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from pii_finetune.answers import canonical_answer
from pii_finetune.config import DataConfig
from pii_finetune.errors import BadWorkbookError
from pii_finetune.labels import clean_label
from pii_finetune.languages import canonical_language
from pii_finetune.records import ANSWERS, Record, fingerprint
from pii_finetune.scripts import poses_as_latin
from pii_finetune.tables import COLUMNS
from pii_finetune.workbook import Table

MAX_LABEL_CHARACTERS = 200
_NUM_EXCERPTS = 1_000  # cells of one problem whose content is kept
_NUM_IN_LINE = 3  # of them in a line of text
_NUM_SHOWN = 100  # bad rows listed in a message; the Data Docs have all

_INVISIBLE = "[\u200b\u2060\ufeff\u00ad]"
_KINDS = {
    "formula": "the cell is a formula, whose stored value can be out of date; paste the cells as values",
    "error": "the cell holds a spreadsheet error such as #N/A; type what was meant",
    "merged": "the cell is part of a merged area, so its row is unclear; unmerge it and fill each cell",
}
_SPECIAL_TOKEN = r"<\|[^|]*\|>|</?tool_call>"  # noqa: S105  a pattern, not a secret
_CONTROL = "[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]"


@dataclass(frozen=True)
class Problem:
    """One expectation that failed: which rows of the sheet, why that matters and what to do."""

    expectation: str
    column: str
    rows: tuple[int, ...]  # empty: the table as a whole
    message: str
    found: tuple[str, ...] = ()  # escaped excerpts of the first cells, one a row


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
    num_duplicates: int  # exact duplicates left out
    extra_columns: tuple[str, ...]
    docs: Path | None  # index.html of the Data Docs
    num_expectations: int

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
    shown = ", ".join(str(row) for row in problem.rows[:_NUM_SHOWN])
    more = f" and {len(problem.rows) - _NUM_SHOWN:,} more" if len(problem.rows) > _NUM_SHOWN else ""
    found = ", ".join(dict.fromkeys(text for text in problem.found[:_NUM_IN_LINE] if text))
    cells = f" ({found})" if found else ""
    return (
        f"column {problem.column!r}, row{'s' if len(problem.rows) > 1 else ''} {shown}{more}{cells}: {problem.message}"
    )


def validate(table: Table, docs_folder: Path | None, config: DataConfig | None = None) -> ValidationReport:
    """Check every row of the table against the expectations and write Data Docs into `docs_folder`, if given.

    With `on_bad_row = "drop"` rows that fail are left out, up to `max_dropped_share` of all, and the rest is checked
    again.
    """
    cleaned, normalised = _clean(table.rows)
    problems, num_expectations, docs = _run_checkpoint(cleaned, docs_folder)
    problems = [_with_excerpts(problem, table.rows) for problem in problems]
    dropped: list[Problem] = []
    kept = cleaned
    bad = [row for problem in problems for row in problem.rows]
    if bad and config is not None and _may_drop(len(set(bad)) / len(cleaned), config):
        dropped = [problem for problem in problems if problem.rows]
        kept = cleaned.loc[~cleaned["row"].isin(bad)]
        problems, _, _ = _run_checkpoint(kept, None)
    valid = kept.iloc[:0] if problems else kept
    unique = valid.drop_duplicates(["label", "language"])
    records = tuple(
        Record(label, language, answer == "yes", int(row))
        for row, label, language, answer in unique[["row", "label", "language", "sensitive"]].itertuples(index=False)
    )
    return ValidationReport(
        where=table.where,
        path=table.path,
        sheet=table.sheet,
        records=records,
        problems=tuple(problems),
        dropped=tuple(dropped),
        num_rows=len(cleaned),
        num_cleaned=sum(
            kind == "text" and new is not None and raw != new
            for raw, new, kind in zip(table.rows["label"], cleaned["label"], table.rows["label_kind"], strict=True)
        ),
        normalised=normalised,
        notes=table.notes,
        num_duplicates=len(valid) - len(unique),
        extra_columns=table.extra_columns,
        docs=docs,
        num_expectations=num_expectations,
    )


def _may_drop(share: float, config: DataConfig) -> bool:
    return config.on_bad_row == "drop" and share <= config.max_dropped_share


def escape_cell(text: str | None, width: int = 40) -> str:
    """Return a short excerpt of a cell in quotes, with control, invisible and direction characters spelled out."""
    if text is None:
        return ""
    shown = "".join(c if unicodedata.category(c)[0] != "C" else f"\\u{ord(c):04x}" for c in text[:width])
    return f"'{shown}{'…' if len(text) > width else ''}'"


def _with_excerpts(problem: Problem, rows: pd.DataFrame) -> Problem:
    shown = problem.rows[:_NUM_EXCERPTS]
    if not shown or problem.column not in rows:
        return problem
    cells = rows.loc[rows["row"].isin(shown), ["row", problem.column]]
    found = dict(zip(cells["row"], cells[problem.column], strict=True))
    return replace(problem, found=tuple(escape_cell(found.get(row)) for row in shown))


def _clean(rows: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the rows normalised and what was normalised; a cell that cannot be is left for an expectation to catch."""
    labels = [
        clean_label(cell) or None if kind == "text" else None
        for cell, kind in zip(rows["label"], rows["label_kind"], strict=True)
    ]
    texts = {name: [_text(cell) for cell in rows[name]] for name in ("language", "sensitive")}
    languages = [canonical_language(text) or text or None for text in texts["language"]]
    answers = [canonical_answer(text) or text or None for text in texts["sensitive"]]
    raw = [cell for cell, kind in zip(rows["label"], rows["label_kind"], strict=True) if kind == "text"]
    normalised = {
        "labels with invisible characters removed": sum(bool(re.search(_INVISIBLE, text)) for text in raw),
        "labels composed to NFC": sum(not unicodedata.is_normalized("NFC", text) for text in raw),
        "labels with spaces or line breaks put right": sum(text != " ".join(text.split()) for text in raw),
        "languages written by their English names": sum(
            new is not None and old != new for old, new in zip(rows["language"], languages, strict=True)
        ),
        "answers written as yes or no": sum(
            new in ANSWERS and old != new for old, new in zip(rows["sensitive"], answers, strict=True)
        ),
    }
    cleaned = pd.DataFrame(
        {
            "row": rows["row"].astype(int),
            "label": labels,
            "label_kind": [
                "empty" if kind == "text" and label is None else kind
                for kind, label in zip(rows["label_kind"], labels, strict=True)
            ],
            "label_script": [
                "mixed" if label is not None and poses_as_latin(label, language) else "one"
                for label, language in zip(labels, languages, strict=True)
            ],
            "language": _where_readable(languages, rows["language_kind"]),
            "language_kind": _kinds(languages, rows["language_kind"]),
            "sensitive": _where_readable(answers, rows["sensitive_kind"]),
            "sensitive_kind": _kinds(answers, rows["sensitive_kind"]),
        },
        dtype=object,
    )
    pairs = cleaned.groupby(["label", "language"])["sensitive"]
    cleaned["label_language_answers"] = pairs.transform("nunique") if len(cleaned) else []
    return cleaned, {what: count for what, count in normalised.items() if count}


def _where_readable(values: Sequence[str | None], kinds: Iterable[str]) -> list[str | None]:
    """Return the values whose cells are what they show; the others are reported by their kind alone."""
    return [None if kind in _KINDS else value for value, kind in zip(values, kinds, strict=True)]


def _kinds(values: Sequence[str | None], kinds: Iterable[str]) -> list[str]:
    return [
        "empty" if value is None and kind not in _KINDS else kind for value, kind in zip(values, kinds, strict=True)
    ]


def _text(cell: str | None) -> str:
    return "" if cell is None else unicodedata.normalize("NFC", re.sub(_INVISIBLE, "", cell)).strip()


def _expectations() -> list[Any]:
    import great_expectations.expectations as gxe

    from pii_finetune.languages import LANGUAGES

    def expect(kind: Callable[..., Any], message: str, **arguments: Any) -> Any:
        return kind(**arguments, meta={"message": message}, severity="critical")

    cells = [
        expect(gxe.ExpectColumnValuesToNotBeInSet, message, column=f"{column}_kind", value_set=[kind])
        for column in COLUMNS
        for kind, message in _KINDS.items()
    ]
    return [
        *cells,
        expect(
            gxe.ExpectTableRowCountToBeBetween,
            "there are too few rows to learn from and to test on; give at least 20",
            min_value=20,
        ),
        expect(
            gxe.ExpectColumnDistinctValuesToContainSet,
            "both answers must occur; a model cannot learn to decide from examples of one answer only",
            column="sensitive",
            value_set=list(ANSWERS),
        ),
        expect(
            gxe.ExpectColumnValuesToNotBeInSet,
            "a label must be text, not a number, date or boolean; type the label, or delete the row",
            column="label_kind",
            value_set=["number", "date", "boolean", "other"],
        ),
        expect(
            gxe.ExpectColumnValuesToNotBeInSet,
            "the label is empty; type one, or delete the row",
            column="label_kind",
            value_set=["empty"],
        ),
        expect(
            gxe.ExpectColumnValuesToNotBeInSet,
            "the label has letters of another script that pose as Latin ones, so it reads as it is not; retype it",
            column="label_script",
            value_set=["mixed"],
        ),
        expect(
            gxe.ExpectColumnValueLengthsToBeBetween,
            f"a label can have at most {MAX_LABEL_CHARACTERS} characters; it looks like text of another kind",
            column="label",
            min_value=1,
            max_value=MAX_LABEL_CHARACTERS,
        ),
        expect(
            gxe.ExpectColumnValuesToNotMatchRegex,
            "the label contains a control token of the language model (such as <|im_end|>); remove it",
            column="label",
            regex=_SPECIAL_TOKEN,
        ),
        expect(
            gxe.ExpectColumnValuesToNotMatchRegex,
            "the label contains control or text-direction characters, so it reads as it is not; retype it",
            column="label",
            regex=_CONTROL,
        ),
        expect(
            gxe.ExpectColumnValuesToNotBeInSet,
            "the language is empty; write e.g. English or en",
            column="language_kind",
            value_set=["empty"],
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "the language is not known; write its English name or two-letter code, e.g. English or en",
            column="language",
            value_set=list(LANGUAGES),
        ),
        expect(
            gxe.ExpectColumnValuesToNotBeInSet,
            "the answer is empty; write yes or no",
            column="sensitive_kind",
            value_set=["empty"],
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "the answer is no word known for yes or no; write yes or no",
            column="sensitive",
            value_set=list(ANSWERS),
        ),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "the same label and language has both answers; decide which is right and make the rows agree",
            column="label_language_answers",
            value_set=[0, 1],
        ),
    ]


def _run_checkpoint(rows: pd.DataFrame, docs_folder: Path | None) -> tuple[list[Problem], int, Path | None]:
    """Run the suite as a checkpoint. Results name rows by number and never hold a cell's content (GX #8780)."""
    import great_expectations as gx
    from great_expectations.checkpoint import UpdateDataDocsAction

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # pyright: ignore[reportAttributeAccessIssue]
    actions = []
    if docs_folder is not None:
        context.add_data_docs_site(
            site_name="workbook",
            site_config={
                "class_name": "SiteBuilder",
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
                "store_backend": {
                    "class_name": "TupleFilesystemStoreBackend",
                    "base_directory": str(docs_folder.resolve()),
                },
            },
        )
        actions.append(UpdateDataDocsAction(name="data_docs", site_names=["workbook"]))
    batch = (
        context.data_sources.add_pandas("workbook")
        .add_dataframe_asset("rows")
        .add_batch_definition_whole_dataframe("all")
    )
    suite = context.suites.add(gx.ExpectationSuite(name="labels", expectations=_expectations()))
    definition = context.validation_definitions.add(gx.ValidationDefinition(name="labels", data=batch, suite=suite))
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name="labels",
            validation_definitions=[definition],
            actions=actions,
            result_format={
                "result_format": "COMPLETE",
                "unexpected_index_column_names": ["row"],
                "exclude_unexpected_values": True,
                "partial_unexpected_count": 0,
                "return_unexpected_index_query": False,
            },
        )
    )
    outcome = checkpoint.run(batch_parameters={"dataframe": rows})
    results = [result for run in outcome.run_results.values() for result in run.results]
    problems = [_problem(result) for result in results if not result.success]
    return problems, len(results), None if docs_folder is None else docs_folder / "index.html"


def _about(column: str) -> str:
    """Return the column of the workbook that a column made to be checked is about."""
    if column.endswith("_kind"):
        return column.removesuffix("_kind")
    return {"label_script": "label", "label_language_answers": "sensitive"}.get(column, column)


def _problem(result: Any) -> Problem:
    config = result.expectation_config
    column = str(config.kwargs.get("column", ""))
    # With values excluded, GX returns one entry holding all row numbers: [{"row": [7, 9]}].
    index = result.result.get("unexpected_index_list") or []
    return Problem(
        expectation=config.type,
        column=_about(column),
        rows=tuple(sorted(int(row) for entry in index for row in entry["row"])),
        message=config.meta["message"]
        if not result.exception_info.get("raised_exception")
        else f"could not be checked: {result.exception_info}",
    )
