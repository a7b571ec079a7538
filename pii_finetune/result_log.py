"""Numbers and tables for the active MLflow run, logged so that doing it twice leaves them there once."""

import json
from collections.abc import Mapping

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

from pii_finetune.patience import patiently


def log_numbers(numbers: Mapping[str, float]) -> None:
    """Log results, less those that are there with the same value: a try before this one, or a run before, did it."""
    patiently(_log_new, numbers)


def _log_new(numbers: Mapping[str, float]) -> None:
    known = _active_run().data.metrics
    new = {name: value for name, value in numbers.items() if known.get(name) != value}
    if new:
        mlflow.log_metrics(new)


def log_table(table: pd.DataFrame, file: str) -> None:
    """Log a table as mlflow.log_table does, but in place of one that is there, where that would append to it."""
    patiently(mlflow.log_text, str(table.to_json(orient="split", index=False, date_format="iso")), file)
    patiently(_mark_as_table, file)


def _mark_as_table(file: str) -> None:
    """Add the tag by which MLflow's pages know a table."""
    known = json.loads(_active_run().data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
    mark = {"path": file, "type": "table"}
    if mark not in known:
        mlflow.set_tag(MLFLOW_LOGGED_ARTIFACTS, json.dumps([*known, mark]))


def _active_run() -> Run:
    """Return the active run as the server has it now."""
    active = mlflow.active_run()
    if active is None:
        raise RuntimeError("results are logged to the active run, and there is none")
    return MlflowClient().get_run(active.info.run_id)
