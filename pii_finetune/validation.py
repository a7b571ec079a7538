"""Judging the rows with Great Expectations: the only module that knows it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from pii_finetune.errors import BadWorkbookError
from pii_finetune.labels import clean_label
from pii_finetune.languages import canonical_language
from pii_finetune.records import ANSWERS, Record, fingerprint
from pii_finetune.workbook import Table

MAX_LABEL_CHARACTERS = 200
_NUM_SHOWN = 100  # bad rows listed in a message; the Data Docs have all

_ANSWER_WORDS = {"yes": "yes", "true": "yes", "1": "yes", "no": "no", "false": "no", "0": "no"}
_SPECIAL_TOKEN = r"<\|[^|]*\|>|</?tool_call>"  # noqa: S105  a pattern, not a secret
_CONTROL = "[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069\u200e\u200f\u061c]"


@dataclass(frozen=True)
class Problem:
    """One expectation that failed: which rows of the sheet, why that matters and what to do."""

    expectation: str
    column: str
    rows: tuple[int, ...]  # empty: the table as a whole
    message: str


@dataclass(frozen=True)
class ValidationReport:
    """What is in the workbook and what is wrong with it."""

    path: Path
    sheet: str
    records: tuple[Record, ...]  # cleaned, without exact duplicates; complete only if there are no problems
    problems: tuple[Problem, ...]
    num_rows: int
    num_cleaned: int  # labels that were changed by cleaning
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
        lines = [
            f"{self.path}, sheet {self.sheet!r}: {len(self.problems)} of {self.num_expectations} expectations failed"
        ]
        lines += [f"  - {problem_line(problem)}" for problem in self.problems]
        raise BadWorkbookError("\n".join(lines))


def problem_line(problem: Problem) -> str:
    """Return one line naming column, rows and remedy."""
    if not problem.rows:
        return problem.message
    shown = ", ".join(str(row) for row in problem.rows[:_NUM_SHOWN])
    more = f" and {len(problem.rows) - _NUM_SHOWN} more" if len(problem.rows) > _NUM_SHOWN else ""
    return f"column {problem.column!r}, row{'s' if len(problem.rows) > 1 else ''} {shown}{more}: {problem.message}"


def validate(table: Table, docs_folder: Path | None) -> ValidationReport:
    """Check every row of the table against the expectations and write Data Docs into `docs_folder`, if given."""
    cleaned = _clean(table.rows)
    problems, num_expectations, docs = _run_checkpoint(cleaned, docs_folder)
    valid = cleaned.dropna(subset=["label", "language", "sensitive"]) if not problems else cleaned.iloc[:0]
    unique = valid.drop_duplicates(["label", "language"])
    records = tuple(
        Record(label, language, answer == "yes", int(row))
        for row, label, language, answer in unique[["row", "label", "language", "sensitive"]].itertuples(index=False)
    )
    return ValidationReport(
        path=table.path,
        sheet=table.sheet,
        records=records,
        problems=tuple(problems),
        num_rows=len(cleaned),
        num_cleaned=sum(
            isinstance(raw, str) and raw != new for raw, new in zip(table.rows["label"], cleaned["label"], strict=True)
        ),
        num_duplicates=len(valid) - len(unique),
        extra_columns=table.extra_columns,
        docs=docs,
        num_expectations=num_expectations,
    )


def _clean(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows normalised; a cell that cannot be is left so that an expectation catches it."""
    languages = rows["language"].map(_text)
    cleaned = pd.DataFrame(
        {
            "row": rows["row"].astype(int),
            "label": rows["label"].map(lambda cell: clean_label(cell) or None if isinstance(cell, str) else None),
            "label_type": rows["label"].map(lambda cell: "nothing" if cell in (None, "") else type(cell).__name__),
            "language": languages.map(lambda text: canonical_language(text) or text or None),
            "sensitive": rows["sensitive"]
            .map(_text)
            .map(lambda text: _ANSWER_WORDS.get(text.casefold(), text) or None),
        },
        dtype=object,
    )
    cleaned["label_language_answers"] = cleaned.groupby(["label", "language"])["sensitive"].transform("nunique")
    return cleaned


def _text(cell: object) -> str:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return "" if cell is None else str(cell).strip()


def _expectations() -> list[Any]:
    import great_expectations.expectations as gxe

    from pii_finetune.languages import LANGUAGES

    def expect(kind: Callable[..., Any], message: str, **arguments: Any) -> Any:
        return kind(**arguments, meta={"message": message}, severity="critical")

    return [
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
            gxe.ExpectColumnValuesToBeInSet,
            "a label must be text, not a number, date, boolean or empty cell; type the label, or delete the row",
            column="label_type",
            value_set=["str"],
        ),
        expect(gxe.ExpectColumnValuesToNotBeNull, "the label is empty; type one, or delete the row", column="label"),
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
        expect(gxe.ExpectColumnValuesToNotBeNull, "the language is empty; write e.g. English or en", column="language"),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "the language is not known; write its English name or two-letter code, e.g. English or en",
            column="language",
            value_set=list(LANGUAGES),
        ),
        expect(gxe.ExpectColumnValuesToNotBeNull, "the answer is empty; write yes or no", column="sensitive"),
        expect(
            gxe.ExpectColumnValuesToBeInSet,
            "the answer is not one of yes, no, true, false, 1, 0; write yes or no",
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


def _problem(result: Any) -> Problem:
    config = result.expectation_config
    # With values excluded, GX returns one entry holding all row numbers: [{"row": [7, 9]}].
    index = result.result.get("unexpected_index_list") or []
    return Problem(
        expectation=config.type,
        column=config.kwargs.get("column", ""),
        rows=tuple(sorted(int(row) for entry in index for row in entry["row"])),
        message=config.meta["message"]
        if not result.exception_info.get("raised_exception")
        else f"could not be checked: {result.exception_info}",
    )
