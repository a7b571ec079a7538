"""The MLflow run that belongs to a flow run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prefect import task
from prefect.artifacts import create_link_artifact
from prefect.runtime import flow_run

from pii_finetune.config import RunConfig
from pii_finetune.errors import TrainingStoppedError
from pii_finetune.patience import patience
from pii_finetune.stage_keys import run_key
from pii_finetune.tracking import TrackedRun, close_run, configure_tracking, open_run
from tasks.artifacts import leave, settle


@task(name="open MLflow run", retries=3, retry_delay_seconds=5)
def open_tracked_run(config: RunConfig, mark: str | None, tags: Mapping[str, str]) -> TrackedRun:
    """Start the parent run, or go on with the one of the same file and settings that did not finish; link to it."""
    run = open_run(
        config,
        {"prefect_flow_run_id": str(flow_run.get_id()), "prefect_flow_run_name": str(flow_run.get_name()), **tags},
        run_key(config, mark or "", tags),
    )
    leave(
        create_link_artifact,
        run.url,
        key="mlflow-run",
        link_text="this run in MLflow",
        description="Params, metrics, pictures, adapters",
    )
    return run


@contextmanager
def tracked_run(config: RunConfig, mark: str | None, tags: Mapping[str, str] | None = None) -> Iterator[TrackedRun]:
    """Open the parent run, wait within it for an MLflow that is away, and end it as what happened.

    Tags tell it from other runs of the same data and settings: as a sweep, or a trial of one.
    """
    with patience(config.tracking):
        run = open_tracked_run(config, mark, tags or {})
        status = "KILLED"  # SystemExit, KeyboardInterrupt, a cancellation
        try:
            yield run
            status = "FINISHED"
        except TrainingStoppedError:
            raise
        except Exception:
            status = "FAILED"
            raise
        finally:
            configure_tracking()
            close_run(run, status)
            settle()
