"""A table of labels in, the same table with answers out."""

from pathlib import Path

from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger

from pii_finetune.paths import resolve
from pii_finetune.ray_scoring.cluster import RaySettings
from pii_finetune.remote_file import is_remote, shown_source
from pii_finetune.score_copy import USUAL_COLUMNS
from pii_finetune.score_engine import score_source
from pii_finetune.score_table import ScoreReport
from tasks.artifacts import leave, settle
from tasks.progress import Progress


@task(name="score table")
def score_labels(source: str, target: str, model: str, ray: RaySettings | None) -> ScoreReport:
    """Score the source; a run that was cut off is gone on with by the next one of the same source, target and model."""
    progress = Progress("score-progress", "rows answered")
    source, target = (each if is_remote(each) else str(resolve(each)) for each in (source, target))
    report = score_source(source, target, model, USUAL_COLUMNS, ray, lambda done, total: progress(done / total))
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
        description=f"{Path(shown_source(source)).name}, answered by {model}",
    )
    if report.note:
        get_run_logger().warning("started anew: %s", report.note)
    for note in report.unread:
        get_run_logger().warning("%s", note)
    for name, count in report.unknown_languages.most_common(10):
        get_run_logger().warning("%d rows of a language that is not known: %r", count, name)
    told = (shown_source(target), report.num_rows, report.answers["yes"])
    get_run_logger().info("%s: %d labels, %d of them sensitive", *told)
    settle()
    return report
