"""What the owner of a workbook reads: one self-contained page, and the same as Markdown."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from pii_finetune.advice import Advice
from pii_finetune.row_place import Place, order_of
from pii_finetune.validation import ValidationReport

NUM_SHOWN = 1_000  # bad cells on the page; the counts are of all


@dataclass(frozen=True)
class BadCell:
    """One cell that an expectation names."""

    row: Place
    column: str
    found: str  # an escaped excerpt
    message: str


def bad_cells(report: ValidationReport) -> list[BadCell]:
    """Return the cells that fail or were left out, in the order of the sheet."""
    cells = [
        BadCell(row, problem.column, problem.found[at] if at < len(problem.found) else "", problem.message)
        for problem in report.problems or report.dropped
        for at, row in enumerate(problem.rows)
    ]
    return sorted(cells, key=lambda cell: (*order_of(cell.row), cell.column))


def render_html(report: ValidationReport, advice: Sequence[Advice]) -> str:
    """Return the page; every text from the workbook is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    counts = Counter((r.language, r.answer) for r in report.records)
    languages = [(name, counts[name, "yes"], counts[name, "no"]) for name in sorted({name for name, _ in counts})]
    cells = bad_cells(report)
    return environment.get_template("report.html.jinja").render(
        report=report,
        advice=advice,
        cells=cells,
        num_bad_rows=len({cell.row for cell in cells}),
        languages=languages,
        limit=NUM_SHOWN,
    )
