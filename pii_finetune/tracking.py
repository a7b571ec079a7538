"""What a run leaves in MLflow: one parent run, a child run a stage, params, datasets, pictures, tables."""

import logging
import os
import socket
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.data.dataset import Dataset
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from pii_finetune.config import RunConfig
from pii_finetune.disk import told_if_full
from pii_finetune.errors import RunInProgressError, TrainingStoppedError
from pii_finetune.own_process import may_live, own_process
from pii_finetune.paths import ROOT
from pii_finetune.patience import patiently, reason_of
from pii_finetune.records import Record
from pii_finetune.result_log import log_numbers
from pii_finetune.setup import describe_settings
from pii_finetune.tracking_server import DEFAULT_STORE, with_driver

PART_OF_SWEEP = "sweep"  # tag of a sweep's run and of its trials'
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackedRun:
    """The parent run in MLflow."""

    run_id: str
    experiment_id: str

    @property
    def url(self) -> str:
        """Where a person sees the run; MLFLOW_UI_URL says so where browsers know the server by another name."""
        server = os.environ.get("MLFLOW_UI_URL") or mlflow.get_tracking_uri()
        host = server.rstrip("/") if server.startswith("http") else "http://127.0.0.1:5000"
        return f"{host}/#/experiments/{self.experiment_id}/runs/{self.run_id}"


def configure_tracking() -> str:
    """Use the server that MLFLOW_TRACKING_URI names, or else the SQLite store in mlruns/; return its address."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        DEFAULT_STORE.mkdir(exist_ok=True)
        uri = f"sqlite:///{DEFAULT_STORE / 'mlflow.db'}"
    uri = with_driver(uri)
    mlflow.set_tracking_uri(uri)
    return uri


def open_run(config: RunConfig, tags: Mapping[str, str], key: str | None = None) -> TrackedRun:
    """Start the parent run, with every setting as a param, or go on with the one of this key that did not finish.

    Raises:
        RunInProgressError: the process that has it lives.
    """
    configure_tracking()
    client = MlflowClient()
    experiment_id = patiently(_experiment, client, config.tracking.experiment)
    all_tags = {"profile": config.profile, "git_commit": git_commit(), **own_process(), **tags}
    if config.variant is not None:
        all_tags["variant"] = config.variant
    if key is not None:
        all_tags["run_key"] = key
    all_tags["opened_by"] = uuid.uuid4().hex
    found = patiently(_find_or_create, client, experiment_id, all_tags)
    run = TrackedRun(found.info.run_id, experiment_id)
    with parent_run(run):
        patiently(mlflow.set_tags, all_tags)
        patiently(mlflow.log_params, describe_settings(config))
    return run


def _find_or_create(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> Run:
    """Return the unfinished run of this key, or a new one.

    The answer to the first try may have been lost: a run that it made is known by its tag `opened_by`.
    """
    made = client.search_runs([experiment_id], f"tags.opened_by = '{tags['opened_by']}'", max_results=1)
    key = tags.get("run_key")
    run = made[0] if made else _unfinished_run(client, experiment_id, key) if key is not None else None
    if run is not None:
        return run
    name = tags.get("mlflow.runName") or f"{tags['profile']}-{pd.Timestamp.now(tz='UTC'):%Y%m%d-%H%M%S}"
    return client.create_run(experiment_id, tags=dict(tags), run_name=name)


def _unfinished_run(client: MlflowClient, experiment_id: str, key: str) -> Run | None:
    found = client.search_runs([experiment_id], f"tags.run_key = '{key}' and attributes.status != 'FINISHED'")
    for run in found:  # the newest first
        if run.info.status != "RUNNING" or not may_live(run.data.tags):
            return run
        if run.data.tags["host"] == socket.gethostname() and run.data.tags["pid"] != str(os.getpid()):
            raise RunInProgressError(
                f"process {run.data.tags['pid']} on {run.data.tags['host']} is at the same data with the same "
                f"settings (MLflow run {run.info.run_id}); wait for its end, or stop it and start again to go on there"
            )
    return None


def finished_run(config: RunConfig, fingerprint: str) -> str | None:
    """Return the newest run with these settings that finished, if it was on the rows of this fingerprint."""
    configure_tracking()
    client = MlflowClient()
    experiment = client.get_experiment_by_name(config.tracking.experiment)
    if experiment is None:
        return None
    settings = describe_settings(config)
    for run in client.search_runs(
        [experiment.experiment_id],
        f"attributes.status = 'FINISHED' and tags.profile = '{config.profile}'",
        order_by=["attributes.start_time DESC"],
    ):
        if run.data.params == settings and PART_OF_SWEEP not in run.data.tags:  # none of those promotes a model
            return run.info.run_id if run.data.tags.get("dataset_fingerprint") == fingerprint else None
    return None


def close_run(run: TrackedRun, status: str) -> None:
    """End the parent run as FINISHED, FAILED or KILLED."""
    _end(run.run_id, status, insist=status == "FINISHED")


@contextmanager
def parent_run(run: TrackedRun) -> Iterator[None]:
    """Log to the parent run; it goes on afterwards."""
    patiently(mlflow.start_run, run_id=run.run_id)
    is_done = False
    try:
        with _told_if_full(run.run_id):
            yield
        is_done = True
    finally:
        _end(run.run_id, "RUNNING", insist=is_done)


def stage_run(run: TrackedRun, stage: str, config: RunConfig, key: str) -> AbstractContextManager[str]:
    """Log to the stage's child run, the one of this key that was begun if there is one; yields its id."""
    tags = {"stage": stage, "profile": config.profile, "stage_key": key, **own_process()}
    return child_run(run, tags, "stage_key", log_system_metrics=config.tracking.log_system_metrics)


@contextmanager
def child_run(run: TrackedRun, tags: Mapping[str, str], by: str, *, log_system_metrics: bool) -> Iterator[str]:
    """Log to a child run, the one with the same tag `by` that did not finish if there is one; yields its id.

    It ends as FINISHED, as FAILED if an error passes, or as KILLED if it was stopped.
    """
    active = patiently(_start_child, run, tags, by, log_system_metrics)
    status = "KILLED"
    try:
        with _told_if_full(active.info.run_id):
            yield active.info.run_id
        status = "FINISHED"
    except TrainingStoppedError:
        raise
    except Exception:
        status = "FAILED"
        raise
    finally:
        _end(active.info.run_id, status, insist=status == "FINISHED")


def _told_if_full(run_id: str) -> AbstractContextManager[None]:
    uri = mlflow.get_tracking_uri()
    place = Path(uri.removeprefix("sqlite:///")).parent if uri.startswith("sqlite:///") else "its store"
    return told_if_full(f"what MLflow keeps of run {run_id}", place, "a rerun goes on from here")


def _start_child(run: TrackedRun, tags: Mapping[str, str], by: str, log_system_metrics: bool) -> Run:
    begun = MlflowClient().search_runs(
        [run.experiment_id],
        f"tags.mlflow.parentRunId = '{run.run_id}' and tags.{by} = '{tags[by]}' and attributes.status != 'FINISHED'",
        max_results=1,
    )
    child: dict[str, Any] = (
        {"run_id": begun[0].info.run_id}
        if begun
        else {"run_name": tags["stage"], "experiment_id": run.experiment_id, "parent_run_id": run.run_id}
    )
    return mlflow.start_run(**child, tags=dict(tags), log_system_metrics=log_system_metrics)


def _end(run_id: str, status: str, *, insist: bool) -> None:
    """Set the status of a run, and let go of it; without `insist` another error is on its way, and trouble is said."""
    try:
        if insist:
            patiently(_set_status, run_id, status)
        else:
            _set_status(run_id, status)
    except Exception as error:
        if insist:
            raise
        _LOGGER.warning(
            "MLflow run %s could not be closed as %s (%s): a rerun goes on in it, `pii-finetune reconcile` closes it",
            *(run_id, status, reason_of(error)),
        )


def _set_status(run_id: str, status: str) -> None:
    active = mlflow.active_run()
    if active is not None and active.info.run_id == run_id:
        mlflow.end_run(status)  # lets go of the run before it tells the server: the next try goes the other way
    else:
        MlflowClient().set_terminated(run_id, status)


def log_datasets(source: Path, fingerprint: str, sides: Mapping[str, Sequence[Record]]) -> None:
    """Log the dataset and its splits as inputs of the active run: names, digests and schemas, no rows."""
    patiently(mlflow.set_tag, "dataset_fingerprint", fingerprint)
    for context, records in sides.items():
        rows = pd.DataFrame(
            [(r.label, r.language, r.answer) for r in records], columns=["label", "language", "sensitive"]
        )
        dataset = from_pandas(rows, source=str(source), targets="sensitive", name=f"{source.stem}-{context}")
        patiently(_log_input, dataset, context)
        log_numbers({f"num_rows_{context}": len(records)})


def _log_input(dataset: Dataset, context: str) -> None:
    try:
        mlflow.log_input(dataset, context=context)
    except MlflowException as error:
        if "INSERT INTO datasets" not in str(error):
            raise
        mlflow.log_input(dataset, context=context)  # another run made it since MLflow looked whether it is there


def _experiment(client: MlflowClient, name: str) -> str:
    existing = client.get_experiment_by_name(name)
    if existing is not None:
        if existing.lifecycle_stage == "deleted":
            client.restore_experiment(existing.experiment_id)
        return existing.experiment_id
    local = mlflow.get_tracking_uri().startswith("sqlite:")
    store = Path(mlflow.get_tracking_uri().removeprefix("sqlite:///")).parent / "artifacts"
    try:
        return client.create_experiment(name, artifact_location=store.resolve().as_uri() if local else None)
    except MlflowException:  # another run made it meanwhile
        existing = client.get_experiment_by_name(name)
        if existing is None:
            raise
        return existing.experiment_id


def git_commit() -> str:
    """Return the commit the code is at, with `-dirty` if it was changed since; `unknown` outside a repository."""
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return os.environ.get("GIT_COMMIT", "unknown")
