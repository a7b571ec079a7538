"""Answering a folder of tables of any size with a pool of workers, into a folder of parts."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pii_finetune.code_version import code_version
from pii_finetune.disk import told_if_full
from pii_finetune.errors import BadWorkbookError
from pii_finetune.manifest import MANIFEST, digest
from pii_finetune.model_check import naming, verify_model_folder
from pii_finetune.ray_scoring.cluster import RaySettings, started
from pii_finetune.ray_scoring.output import OutputFolder
from pii_finetune.ray_scoring.part import Summary, Work, find_finished, total
from pii_finetune.ray_scoring.plan import Job, Plan, make_plan
from pii_finetune.ray_scoring.pool import answer_parts, split_tables
from pii_finetune.ray_scoring.tables import list_tables
from pii_finetune.registry import fetch_model_folder
from pii_finetune.score_copy import USUAL_COLUMNS, Columns
from pii_finetune.score_table import ScoreReport
from pii_finetune.tracking import configure_tracking

PLAN, DONE = "_plan.json", "_manifest.json"
USUAL_SETTINGS = RaySettings()


def score_folder(
    source: str,
    target: str,
    model_uri: str,
    columns: Columns = USUAL_COLUMNS,
    settings: RaySettings = USUAL_SETTINGS,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> ScoreReport:
    """Answer every row of the source's tables, each in exactly one part of the target.

    If the work is cut off, the same call goes on: parts that are there and whole are kept. `_manifest.json` comes last,
    with the parts and their counts, and says that all of them are there.

    Args:
        source: a table, or a folder of them: a path, or an fsspec URL.
        target: a folder, new or of the same work: a path, or an fsspec URL.
        model_uri: a model of this project in MLflow.
        columns: names of the columns.
        settings: workers, and how many rows a part has.
        on_progress: called with the number of rows that are answered and of all rows.

    Raises:
        BadWorkbookError: source or target cannot be used, a row has no label, or there are parts of another work.
        MissingModelError, TamperedModelError: as score_table.
        WorkersLostError: Ray lost its workers.
        DiskFullError, OutputOutOfReachError: no part can be written.
    """
    tables, notes = list_tables(source)
    output = OutputFolder(target)
    output.prepare(PLAN)
    with output.held(), _fetched(model_uri) as (model, identity):
        marks = {table.name: table.mark for table in tables}
        job = Job(marks, (columns.label, columns.language), settings.rows_per_part, identity, code_version())
        plan, kept = _kept_plan(job, output)
        summaries = dict(kept)
        if plan is None or len(kept) < len(plan.parts):
            output.remove(DONE)
            with started(settings) as cluster, told_if_full(f"--out {output.shown}", target, _AGAIN):
                if plan is None:
                    plan = make_plan(job, split_tables(tables, columns, settings.rows_per_part, cluster))
                    output.put_text(PLAN, plan.to_json())
                missing = [part for part in plan.parts if part.number not in kept]
                done = total(list(kept.values()))[0]
                on_progress(done, plan.num_rows)
                work = Work(job.key, target, columns, cluster.workplace)
                by_name = {table.name: table for table in tables}
                for number, summary in answer_parts(missing, by_name, work, model, cluster):
                    summaries[number] = summary
                    done += summary.num_rows
                    on_progress(done, plan.num_rows)
        num_rows, answers, unknown = total(list(summaries.values()))
        names = output.names()
        if lost := [part.name for part in plan.parts if part.name not in names]:
            raise BadWorkbookError(f"--out {output.shown}: {lost[0]} was taken away; start the same command again")
        if DONE not in names:
            output.put_text(DONE, _manifest(plan, summaries, model_uri))
    num_kept = sum(summary.num_rows for summary in kept.values())
    num_asked = sum(summary.num_asked for number, summary in summaries.items() if number not in kept)
    return ScoreReport(num_rows, num_kept, num_asked, answers, unknown, "", notes)


_AGAIN = "the same command goes on where it stopped"


@contextmanager
def _fetched(uri: str) -> Iterator[tuple[Path, str]]:
    """Yield the model's folder, verified, and its identity: a worker has no need of MLflow."""
    configure_tracking()
    with tempfile.TemporaryDirectory(prefix="pii-finetune-model-") as fetched:
        folder = fetch_model_folder(uri, Path(fetched))
        with naming(uri, Path(fetched)):
            verify_model_folder(folder)
        yield folder, digest(folder / MANIFEST).sha256


def _kept_plan(job: Job, output: OutputFolder) -> tuple[Plan | None, dict[int, Summary]]:
    """Return the plan that is there, and its finished parts.

    Raises:
        BadWorkbookError: it was another job's, and there are parts of it.
    """
    names = output.names()
    if PLAN not in names:
        return None, {}
    with output.open(PLAN) as file:
        plan = Plan.from_json(file.read().decode())
    if plan.job != job:
        if any(part.name in names for part in plan.parts):
            job.require_same(plan.job, output.shown)
        return None, {}
    return plan, find_finished(plan, output)


def _manifest(plan: Plan, summaries: dict[int, Summary], model_uri: str) -> str:
    num_rows, answers, unknown = total(list(summaries.values()))
    parts = [
        {"name": part.name, "table": part.table, "first_row": part.rows.first, "num_rows": part.rows.num_rows}
        for part in plan.parts
    ]
    return json.dumps(
        {
            "num_rows": num_rows,
            "answers": dict(answers),
            "unknown_languages": dict(unknown),
            "model": {"uri": model_uri, "manifest_sha256": plan.job.model},
            "tables": plan.job.tables,
            "parts": parts,
            "job": plan.job.key,
        },
        indent=1,
    )
