"""`pii-finetune score SOURCE --out TARGET`."""

from contextlib import nullcontext
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
from cli.own_stderr import own_stderr
from pii_finetune.quiet import quiet_libraries
from pii_finetune.ray_scoring.cluster import RaySettings
from pii_finetune.remote_file import is_remote, shown_source
from pii_finetune.score_copy import Columns
from pii_finetune.score_engine import score_source
from pii_finetune.score_table import ScoreReport
from pii_finetune.tracking_server import require_server

_NUM_NAMES = 10  # unknown languages shown


class _Speed(TextColumn):
    """Rows a second, of late."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} rows/s" if task.speed else "", style="progress.data.speed")


def score(source: str, target: str, model_uri: str, columns: Columns, ray: RaySettings | None) -> int:
    """Score a table, or with Ray a folder of them, and say what came of it."""
    if ray is not None:  # its workers stand elsewhere
        source, target = (each if is_remote(each) else str(Path(each).absolute()) for each in (source, target))
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
        with nullcontext() if ray is None else own_stderr(), bar:
            task = bar.add_task("reading", total=None)

            def show(done: int, total: int) -> None:
                bar.update(task, description="scoring", completed=done, total=total)

            report = score_source(source, target, model_uri, columns, ray, show)
    except KeyboardInterrupt:
        console.print(
            f"{shown_source(target)}: not written; the same command goes on where it stopped", highlight=False
        )
        raise
    for line in _summary(shown_source(target), report):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 0


def _summary(target: str, report: ScoreReport) -> list[str]:
    lines = [f"{target}: {report.num_rows:,} labels, {report.answers['yes']:,} of them sensitive"]
    if review := report.answers["review"]:
        lines[0] += f", {review:,} for people to review"
    lines[0] += f" ({report.num_asked:,} asked of the model)"
    if report.note:
        lines.append(f"started anew: {report.note}")
    if report.num_kept:
        lines.append(f"{report.num_kept:,} of them were answered before the work was cut off")
    lines += report.unread
    if unknown := report.unknown_languages:
        names = ", ".join(f"{name[:40]!r} ({count:,})" for name, count in unknown.most_common(_NUM_NAMES))
        more = f" and {len(unknown) - _NUM_NAMES:,} other names" if len(unknown) > _NUM_NAMES else ""
        lines.append(f"asked without a language: {unknown.total():,} labels whose language is not known: {names}{more}")
    return lines
