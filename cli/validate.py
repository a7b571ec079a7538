"""`pii-finetune validate FILE [--against OLD]`."""

import logging
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.drift import show_drift
from pii_finetune import validation
from pii_finetune.advice import advise
from pii_finetune.drift import compare
from pii_finetune.errors import BadConfigError, BadWorkbookError
from pii_finetune.overrides import parse_assignments
from pii_finetune.records import Record
from pii_finetune.setup import build_config
from pii_finetune.splits import split
from pii_finetune.workbook import read_workbook

_NUM_DETAILS = 10  # of each advice; the report has all


def validate(file: Path, docs: Path | None, against: Path | None, assignments: list[str]) -> int:
    """Validate a workbook as a run would, and show what is in it and what changed since another."""
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    config = build_config("embedded", None, parse_assignments(assignments) | {"data.workbook": str(file.resolve())})
    if docs is not None:
        try:
            docs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadConfigError(f"--docs {docs}: is no folder and cannot be made one ({error.strerror})") from None
    report = validation.validate(read_workbook(config.data), docs, config.data)
    console = Console()
    if docs is not None:
        console.print(f"Data Docs: {docs / 'index.html'}", highlight=False, soft_wrap=True)
    report.require_valid()
    split(report.records, config.data)
    _show_rows(console, report)
    console.print(f"fingerprint {report.fingerprint}", highlight=False, soft_wrap=True)
    table = Table()
    for column in ("language", "sensitive", "not sensitive"):
        table.add_column(column, justify="left" if column == "language" else "right")
    counts = Counter((r.language, r.answer) for r in report.records)
    for language in sorted({language for language, _ in counts}):
        table.add_row(language, f"{counts[language, 'yes']:,}", f"{counts[language, 'no']:,}")
    console.print(table)
    for advice in advise(report.records, config.data.seed):
        console.print(f"\n[bold yellow]{escape(advice.kind)}[/]: {escape(advice.message)}", highlight=False)
        numbers = [f"row {row}: " for row in advice.rows] or [""] * len(advice.details)
        for number, detail in list(zip(numbers, advice.details, strict=False))[:_NUM_DETAILS]:
            console.print(f"  {number}{escape(detail)}", highlight=False, soft_wrap=True)
        if len(advice.details) > _NUM_DETAILS:
            console.print(f"  and {len(advice.details) - _NUM_DETAILS} more", highlight=False)
    if against is not None:
        show_drift(console, compare(_read_old(against, assignments), report.records))
    return 0


def _show_rows(console: Console, report: validation.ValidationReport) -> None:
    if report.dropped:
        console.print("[bold yellow]left out[/], as data.on_bad_row = drop says:", highlight=False)
        for problem in report.dropped:
            console.print(f"  {escape(validation.problem_line(problem))}", highlight=False)
    console.print(f"[bold green]valid[/]: all {report.num_expectations} expectations hold", highlight=False)
    console.print(
        f"{report.num_rows:,} rows, {len(report.records):,} used; {report.num_cleaned:,} labels cleaned, "
        f"{report.num_duplicates:,} exact duplicates left out",
        highlight=False,
    )
    for what, count in report.normalised.items():
        console.print(f"  {count:,} {what}", highlight=False)
    for note in report.notes:
        console.print(note, highlight=False, markup=False)
    if report.extra_columns:
        console.print(f"columns not used: {', '.join(report.extra_columns)}", highlight=False, markup=False)


def _read_old(file: Path, assignments: list[str]) -> tuple[Record, ...]:
    config = build_config("embedded", None, parse_assignments(assignments) | {"data.workbook": str(file.resolve())})
    try:
        return validation.validate(read_workbook(config.data), None, config.data).require_valid().records
    except BadWorkbookError as error:
        raise BadWorkbookError(f"--against: the old workbook cannot be used; {error}") from None
