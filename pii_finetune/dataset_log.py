"""The rows a run was trained on, kept in its MLflow run, so that the next run can say what changed since."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import mlflow
import pyarrow as pa
import pyarrow.parquet as pq
from mlflow.exceptions import MlflowException

from pii_finetune.patience import patiently
from pii_finetune.records import Record
from pii_finetune.registry import production_version

_FILE = "dataset.parquet"


def log_rows(records: Sequence[Record]) -> None:
    """Keep the rows as an artifact of the active run."""
    table = pa.table(
        {
            "label": [r.label for r in records],
            "language": [r.language for r in records],
            "sensitive": [r.sensitive for r in records],
            "row": [r.row for r in records],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(table, Path(folder) / _FILE)
        patiently(mlflow.log_artifact, str(Path(folder) / _FILE))


def production_rows(name: str) -> tuple[Record, ...] | None:
    """Return the rows that the model in production was trained on; None: there is no model, or its run kept none."""
    version = production_version(name)
    run_id = version.tags.get("run") if version is not None else None
    if run_id is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = patiently(mlflow.artifacts.download_artifacts, run_id=run_id, artifact_path=_FILE, dst_path=folder)
        except (MlflowException, OSError):
            return None
        columns = pq.read_table(path).to_pydict()
    return tuple(
        Record(label, language, sensitive, row)
        for label, language, sensitive, row in zip(
            columns["label"], columns["language"], columns["sensitive"], columns["row"], strict=True
        )
    )
