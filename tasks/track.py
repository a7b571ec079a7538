"""The MLflow run that belongs to a flow run."""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect import task
from prefect.artifacts import create_link_artifact
from prefect.runtime import flow_run

from pii_finetune.config import RunConfig
from pii_finetune.tracking import TrackedRun, close_run, configure_tracking, open_run


@task(name="open MLflow run", retries=3, retry_delay_seconds=5)
def open_tracked_run(config: RunConfig) -> TrackedRun:
    """Start the parent run and link to it."""
    run = open_run(
        config, {"prefect_flow_run_id": str(flow_run.get_id()), "prefect_flow_run_name": str(flow_run.get_name())}
    )
    create_link_artifact(
        run.url, key="mlflow-run", link_text="this run in MLflow", description="Params, metrics, pictures, adapters"
    )
    return run


@contextmanager
def tracked_run(config: RunConfig) -> Iterator[TrackedRun]:
    """Open the parent run, and end it as what happened."""
    run = open_tracked_run(config)
    status = "KILLED"  # SystemExit, KeyboardInterrupt, a cancellation
    try:
        yield run
        status = "FINISHED"
    except Exception:
        status = "FAILED"
        raise
    finally:
        configure_tracking()
        close_run(run, status)
