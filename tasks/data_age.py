"""Whether a run's data still is the newest when it ends."""

import mlflow
from prefect import task
from prefect.logging import get_run_logger

from pii_finetune.config import RunConfig
from pii_finetune.dataset_watch import has_other_rows
from pii_finetune.errors import SourceOutOfReachError
from pii_finetune.patience import patiently
from pii_finetune.source_mark import source_mark
from pii_finetune.tracking import TrackedRun, parent_run
from pii_finetune.validation import ValidationReport


@task(name="note the source")
def note_source(config: RunConfig) -> str | None:
    """Return the source's mark; taken before it is read, so that a change meanwhile is seen too."""
    return source_mark(config.data.workbook)


@task(name="check that the data is the newest")
def check_data_is_newest(config: RunConfig, workbook: ValidationReport, mark: str | None, run: TrackedRun) -> bool:
    """Say, and tag, whether the source is known to hold other rows than this run read; the run goes on either way."""
    newest = None
    try:
        newest = not has_other_rows(config, workbook.fingerprint, mark)
    except SourceOutOfReachError as error:
        get_run_logger().warning("whether the data changed while this run went cannot be seen: %s", error)
    with parent_run(run):
        patiently(mlflow.set_tag, "data_is_newest", "unknown" if newest is None else str(newest).lower())
    if newest is False:
        get_run_logger().warning("%s changed while this run went: the model knows its rows of before", workbook.where)
    return newest is not False
