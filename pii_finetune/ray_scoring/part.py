"""One part on its way: read by a process of its own, asked about, written, summed up in its own footer."""

import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pii_finetune.disk import told_if_full
from pii_finetune.errors import BadWorkbookError
from pii_finetune.isolation import copy_isolated
from pii_finetune.ray_scoring.output import OutputFolder
from pii_finetune.ray_scoring.plan import Part, Plan
from pii_finetune.ray_scoring.tables import Table, readable, require_unchanged
from pii_finetune.score_answers import Scoring
from pii_finetune.score_copy import COPY, Columns, opened_copy, write_answered
from pii_finetune.score_model import TableModel

_NOTE = "pii_finetune"  # key in the footer


@dataclass(frozen=True)
class Summary:
    """What came of a part."""

    num_rows: int
    num_asked: int  # questions the model was asked: what comes again within a part is not asked again
    answers: dict[str, int]  # rows by answer
    unknown_languages: dict[str, int]  # rows by name


@dataclass(frozen=True)
class Work:
    """What a worker must know of every part: all of it small, and text."""

    job_key: str
    target: str
    columns: Columns
    workplace: str | None  # a folder for what is made on the way; None: the system's


def answer_part(part: Part, table: Table, work: Work, model: TableModel) -> Summary:
    """Read the part, answer it and write it; done twice, it leaves the same file.

    Answers that come again are remembered within a part only, so that no part depends on which others a worker had.

    Raises:
        BadWorkbookError: the table changed, or cannot be read any more.
        DiskFullError, OutputOutOfReachError: the part could not be written.
    """
    output = OutputFolder(work.target)
    with (
        tempfile.TemporaryDirectory(prefix="pii-finetune-part-", dir=work.workplace) as name,
        told_if_full(f"--out {output.shown}", name, "the same command goes on where it stopped"),
    ):
        folder = Path(name)
        require_unchanged(table)
        with readable(table, work.workplace) as source:
            settings, required = table.settings(work.columns), work.columns.language is not None
            num_rows = copy_isolated(source, settings, required, folder / COPY, part.rows)
        require_unchanged(table)
        if num_rows != part.rows.num_rows:
            raise BadWorkbookError(f"{table.name}: has other rows than when the work was planned; begin anew")
        scoring = Scoring(folder, model)
        with opened_copy(folder) as pieces:
            for _ in scoring.run(pieces):
                pass
        summary = Summary(num_rows, scoring.num_asked, dict(scoring.answers), dict(scoring.unknown_languages))
        note = {"job": work.job_key, "part": part.number, **vars(summary)}
        output.put(part.name, write_answered(folder, scoring.columns, ".parquet", {_NOTE: json.dumps(note)}))
    return summary


def find_finished(plan: Plan, output: OutputFolder) -> dict[int, Summary]:
    """Return the parts that are there, whole, and of this plan's job, by number."""
    names, found = output.names(), dict[int, Summary]()
    for part in plan.parts:
        summary = _summary(part, plan, output) if part.name in names else None
        if summary is not None:
            found[part.number] = summary
    return found


def _summary(part: Part, plan: Plan, output: OutputFolder) -> Summary | None:
    try:
        with output.open(part.name) as file:
            footer = pq.read_metadata(file)
        note = json.loads((footer.metadata or {})[_NOTE.encode()])
        is_ours = note.pop("job") == plan.job.key and note.pop("part") == part.number
        return Summary(**note) if is_ours and footer.num_rows == part.rows.num_rows else None
    except (pa.ArrowException, ValueError, KeyError, TypeError):  # cut short, or none of ours: made anew
        return None


def total(summaries: list[Summary]) -> tuple[int, Counter[str], Counter[str]]:
    """Return rows, answers and unknown languages of all of them."""
    answers, unknown = Counter[str](), Counter[str]()
    for summary in summaries:
        answers.update(summary.answers)
        unknown.update(summary.unknown_languages)
    return sum(summary.num_rows for summary in summaries), answers, unknown
