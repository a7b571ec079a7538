"""`pii-finetune validate FILE [--report R] [--fixed F] [--docs D] [--against OLD]`."""

import logging
import os
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.console import open_console
from cli.drift import show_drift
from pii_finetune import validation
from pii_finetune.advice import Advice
from pii_finetune.config import DataConfig, RunConfig
from pii_finetune.data_report import bad_cells, render_html
from pii_finetune.drift import compare
from pii_finetune.errors import BadConfigError, BadWorkbookError
from pii_finetune.hub_dataset import absolute_source
from pii_finetune.isolation import mark_isolated
from pii_finetune.overrides import parse_assignments
from pii_finetune.records import Record
from pii_finetune.setup import build_config
from pii_finetune.splits import split
from pii_finetune.workbook import read_workbook

_NUM_DETAILS = 10  # of each advice; the page has all
_NUM_BAD_CELLS = 100  # in the terminal
_ELSEWHERE = "free space, or name another folder"


@dataclass(frozen=True)
class Pages:
    """What is to be written beside what is shown; None: not wanted."""

    docs: Path | None = None
    report: Path | None = None
    fixed: Path | None = None


def validate(file: str, pages: Pages, against: str | None, assignments: list[str]) -> int:
    """Validate a workbook as a run would; show and write what is in it, what to mend and what changed since another."""
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    config = _settings(file, assignments)
    _check_targets([file, *([against] if against is not None else [])], pages)
    console = open_console()
    table = read_workbook(config.data)
    try:
        report = validation.validate(table, pages.docs, config.data, advice_seed=config.data.seed)
    except OSError as error:  # nothing but the Data Docs is written there
        raise BadConfigError(f"--docs {pages.docs}: cannot be written ({error.strerror}); {_ELSEWHERE}") from None
    _write_page(console, report, pages)
    is_copied = _write_copy(console, report, config.data, pages)
    if report.problems:
        _show_bad_cells(console, report)
        _show_notes(console, report)
    report.require_valid()
    split(report.records, config.data)
    _show_rows(console, report)
    _show_advice(console, report.advice)
    if against is not None:
        show_drift(console, compare(_read_old(against, assignments), report.records))
    return 0 if is_copied else 2


def _check_targets(sources: list[str], pages: Pages) -> None:
    file, given = sources[0], {os.path.realpath(absolute_source(source)) for source in sources}
    if pages.docs is not None:
        if (pages.docs / "index.html").exists() and not (pages.docs / "validations").is_dir():
            raise BadConfigError(f"--docs {pages.docs}: holds a page that is not ours; name another folder")
        try:
            pages.docs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadConfigError(
                f"--docs {pages.docs}: is no folder and cannot be made one ({error.strerror})"
            ) from None
    for option, target, ending in (("--report", pages.report, ".html"), ("--fixed", pages.fixed, ".xlsx")):
        if target is None:
            continue
        if target.suffix.lower() != ending:
            raise BadConfigError(f"{option} {target}: the ending must be {ending}")
        if not target.parent.is_dir() or target.is_dir() or os.path.realpath(target) in given:
            raise BadConfigError(
                f"{option} {target}: cannot be written there; name another file in a folder that exists"
            )
    if pages.fixed is not None and not file.lower().endswith(".xlsx"):
        raise BadConfigError(f"--fixed {pages.fixed}: comments can be put into an .xlsx workbook only, not into {file}")


def _write_page(console: Console, report: validation.ValidationReport, pages: Pages) -> None:
    if pages.docs is not None:
        console.print(f"Data Docs: {pages.docs / 'index.html'}", highlight=False, soft_wrap=True, markup=False)
    if pages.report is not None:
        try:
            _write_whole(pages.report, render_html(report, report.advice))
        except OSError as error:
            raise BadConfigError(
                f"--report {pages.report}: cannot be written ({error.strerror}); {_ELSEWHERE}"
            ) from None
        console.print(f"report: {pages.report}", highlight=False, soft_wrap=True, markup=False)


def _write_copy(console: Console, report: validation.ValidationReport, config: DataConfig, pages: Pages) -> bool:
    """Write the copy with comments, if wanted; return whether nothing stood in the way."""
    if pages.fixed is None:
        return True
    marks = [{"row": c.row, "column": c.column, "message": c.message} for c in bad_cells(report)]
    try:
        mark_isolated(report.path, config, report.sheet, marks, pages.fixed)
    except OSError as error:
        raise BadConfigError(f"--fixed {pages.fixed}: cannot be written ({error.strerror}); {_ELSEWHERE}") from None
    except BadWorkbookError as error:  # what is wrong with the rows is told all the same
        console.print(f"no copy with comments: {error}", highlight=False, soft_wrap=True, markup=False)
        return False
    console.print(f"copy with {len(marks):,} comments: {pages.fixed}", highlight=False, soft_wrap=True, markup=False)
    return True


def _write_whole(target: Path, text: str) -> None:
    """Write the file, or leave the one that is there as it is."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=target.parent, prefix=".report-", delete=False) as file:
        written = Path(file.name)
        try:
            file.write(text)
            file.close()
            written.chmod(0o644)
            written.replace(target)
        except OSError:
            written.unlink(missing_ok=True)
            raise


def _show_bad_cells(console: Console, report: validation.ValidationReport) -> None:
    cells = bad_cells(report)
    if not cells:
        return
    table = Table(title="Rows to mend", title_justify="left", title_style="bold")
    table.add_column("row", justify="right")
    for name in ("column", "found", "what to do"):
        table.add_column(name)
    for cell in cells[:_NUM_BAD_CELLS]:
        table.add_row(str(cell.row), cell.column, escape(cell.found), escape(cell.message))
    console.print(table)
    if len(cells) > _NUM_BAD_CELLS:
        console.print(f"and {len(cells) - _NUM_BAD_CELLS:,} more; --report FILE.html shows them", highlight=False)


def _show_notes(console: Console, report: validation.ValidationReport) -> None:
    for note in report.notes:
        console.print(note, highlight=False, markup=False)


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
    _show_notes(console, report)
    if report.extra_columns:
        console.print(f"columns not used: {', '.join(report.extra_columns)}", highlight=False, markup=False)
    console.print(f"fingerprint {report.fingerprint}", highlight=False, soft_wrap=True)
    table = Table()
    for column in ("language", "sensitive", "not sensitive"):
        table.add_column(column, justify="left" if column == "language" else "right")
    counts = Counter((r.language, r.answer) for r in report.records)
    for language in sorted({language for language, _ in counts}):
        table.add_row(language, f"{counts[language, 'yes']:,}", f"{counts[language, 'no']:,}")
    console.print(table)


def _show_advice(console: Console, advice: Sequence[Advice]) -> None:
    for each in advice:
        console.print(
            f"\n[bold yellow]{escape(each.kind.replace('_', ' '))}[/]: {escape(each.message)}", highlight=False
        )
        numbers = [f"row {row}: " for row in each.rows] or [""] * len(each.details)
        for number, detail in list(zip(numbers, each.details, strict=False))[:_NUM_DETAILS]:
            console.print(f"  {number}{escape(detail)}", highlight=False, soft_wrap=True)
        if len(each.details) > _NUM_DETAILS:
            console.print(f"  and {len(each.details) - _NUM_DETAILS} more", highlight=False)


def _settings(file: str, assignments: list[str]) -> RunConfig:
    overrides = parse_assignments(assignments)
    if not file.isprintable() and any("\ud800" <= character <= "\udfff" for character in file):
        raise BadConfigError(f"{file!a}: the file's name is not UTF-8; rename it and give it again")
    if "data.workbook" in overrides:
        raise BadConfigError(f"--set data.workbook: the workbook to validate is already named ({file}); leave one out")
    return build_config("embedded", None, overrides | {"data.workbook": absolute_source(file)})


def _read_old(file: str, assignments: list[str]) -> tuple[Record, ...]:
    config = _settings(file, assignments).data
    try:
        return validation.validate(read_workbook(config), None, config).require_valid().records
    except BadWorkbookError as error:
        raise BadWorkbookError(f"--against: the old workbook cannot be used; {error}") from None
