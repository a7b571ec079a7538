"""`pii-finetune score FILE --out FILE`."""

from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from cli.console import open_console
from pii_finetune.quiet import quiet_libraries
from pii_finetune.score_copy import Columns
from pii_finetune.score_table import ScoreReport, score_table
from pii_finetune.tracking_server import require_server

_NUM_NAMES = 10  # unknown languages shown


class _Speed(TextColumn):
    """Rows a second, of late."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} rows/s" if task.speed else "", style="progress.data.speed")


def score(source: Path, target: Path, model_uri: str, columns: Columns) -> int:
    """Score a table and say what came of it."""
    quiet_libraries()
    require_server()
    console, errors = open_console(), open_console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        _Speed(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )
    try:
        with bar:
            task = bar.add_task("reading", total=None)

            def show(done: int, total: int) -> None:
                bar.update(task, description="scoring", completed=done, total=total)

            report = score_table(source, target, model_uri, columns, show)
    except KeyboardInterrupt:
        console.print(f"{target}: not written; the same command goes on where it stopped", highlight=False)
        raise
    for line in _summary(target, report):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 0


def _summary(target: Path, report: ScoreReport) -> list[str]:
    lines = [f"{target}: {report.num_rows:,} labels, {report.answers['yes']:,} of them sensitive"]
    if review := report.answers["review"]:
        lines[0] += f", {review:,} for people to review"
    lines[0] += f" ({report.num_asked:,} asked of the model)"
    if report.note:
        lines.append(f"started anew: {report.note}")
    if report.num_kept:
        lines.append(f"{report.num_kept:,} of them were answered before the work was cut off")
    if unknown := report.unknown_languages:
        names = ", ".join(f"{name[:40]!r} ({count:,})" for name, count in unknown.most_common(_NUM_NAMES))
        more = f" and {len(unknown) - _NUM_NAMES:,} other names" if len(unknown) > _NUM_NAMES else ""
        lines.append(f"asked without a language: {unknown.total():,} labels whose language is not known: {names}{more}")
    return lines
