"""A table of labels in, the same table with answers out."""

from pathlib import Path

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger

from pii_finetune.paths import resolve
from pii_finetune.score_table import ScoreReport, score_table
from tasks.artifacts import leave, settle
from tasks.progress import Progress


@task(name="score table")
def score_labels(source: str, target: str, model: str) -> ScoreReport:
    """Score the table; a run that was cut off is gone on with by the next one of the same table, target and model."""
    progress = Progress("score-progress", "rows answered")
    report = score_table(
        resolve(source), resolve(target), model, on_progress=lambda done, total: progress(done / total)
    )
    leave(
        create_table_artifact,
        [
            *({"rows": f"answered {answer}", "count": count} for answer, count in sorted(report.answers.items())),
            {"rows": "all", "count": report.num_rows},
            {"rows": "answered by a run before that was cut off", "count": report.num_kept},
            {"rows": "distinct questions asked of the model", "count": report.num_asked},
            {"rows": "of an unknown language", "count": report.unknown_languages.total()},
        ],
        key="score",
        description=f"{Path(source).name}, answered by {model}",
    )
    if report.note:
        get_run_logger().warning("started anew: %s", report.note)
    for name, count in report.unknown_languages.most_common(10):
        get_run_logger().warning("%d rows of a language that is not known: %r", count, name)
    get_run_logger().info("%s: %d labels, %d of them sensitive", target, report.num_rows, report.answers["yes"])
    settle()
    return report
