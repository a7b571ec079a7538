"""Results of finished stages, kept as MLflow artifacts and found again by their key, whoever made them."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from pydantic import TypeAdapter

from pii_finetune.calibration import Calibration
from pii_finetune.errors import DamagedResultError, TamperedModelError, UserError
from pii_finetune.evaluation import EvaluationReport
from pii_finetune.intervals import Interval
from pii_finetune.manifest import FileDigest, digest, verify_contents
from pii_finetune.metrics import Metrics
from pii_finetune.patience import patiently
from pii_finetune.result_log import log_numbers
from pii_finetune.robustness import FlipRate
from pii_finetune.tracking import TrackedRun, child_run
from pii_finetune.training import Adapter

STAGE_KEY, KEPT_FROM = "stage_key", "kept_from"
_FOLDER = "kept"
_MANIFEST = "manifest.json"
_ADAPTER_FOLDER = "adapter"
_MEASURED = {
    "test": Mapping[str, Metrics],
    "intervals": Mapping[str, Mapping[str, Interval]],
    "unseen": Mapping[str, Metrics],
    "by_language": Mapping[str, Mapping[str, Metrics]],
    "by_category": Mapping[str, Mapping[str, Metrics]],
    "flips": Mapping[str, Mapping[str, FlipRate]],
}


@dataclass(frozen=True)
class KeptStage:
    """The MLflow run of a stage that finished."""

    run: Run

    @property
    def where(self) -> str:
        """Name the run and when it was."""
        ended = datetime.fromtimestamp((self.run.info.end_time or self.run.info.start_time) / 1000, tz=UTC)
        return f"run {self.run.info.run_id} ({ended:%Y-%m-%d %H:%M} UTC)"


def find_kept(run: TrackedRun, key: str) -> KeptStage | None:
    """Return the stage of this key that finished last, in any run of the experiment, or None."""
    found = patiently(
        MlflowClient().search_runs,
        [run.experiment_id],
        f"tags.{STAGE_KEY} = '{key}' and attributes.status = 'FINISHED'",
        max_results=1,
        order_by=["attributes.end_time DESC"],
    )
    return KeptStage(found[0]) if found else None


def show_kept(run: TrackedRun, stage: str, kept: KeptStage) -> None:
    """Have the parent run show a stage that another run made: a child with its figures and a link to it."""
    origin = kept.run.info
    if kept.run.data.tags.get("mlflow.parentRunId") == run.run_id:
        return
    link = f"/#/experiments/{origin.experiment_id}/runs/{origin.run_id}"
    tags = {"stage": stage, KEPT_FROM: origin.run_id, "mlflow.note.content": f"Kept from [run {origin.run_id}]({link})"}
    with child_run(run, tags, KEPT_FROM, log_system_metrics=False):
        figures = {name: value for name, value in kept.run.data.metrics.items() if not name.startswith("system/")}
        log_numbers(figures)


def keep_adapter(adapter: Adapter) -> None:
    """Log an adapter to the active run, so that `fetch_adapter` finds it."""
    facts = {key: value for key, value in asdict(adapter).items() if key != "path"}
    patiently(mlflow.log_artifacts, str(adapter.path), _ADAPTER_FOLDER)
    with tempfile.TemporaryDirectory() as folder:
        log_manifest(Path(folder), adapter.path, facts)


def fetch_adapter(kept: KeptStage, folder: Path) -> Adapter:
    """Download the adapter of a kept stage into the folder.

    Raises:
        DamagedResultError: a file is missing, or not as it was logged.
    """
    facts = fetch_files(kept, _ADAPTER_FOLDER, folder)
    return Adapter(path=folder / _ADAPTER_FOLDER, **facts)


def keep_evaluation(report: EvaluationReport, calibrations: Mapping[str, Calibration]) -> None:
    """Log a comparison to the active run, so that `fetch_evaluation` finds it."""
    content = {name: TypeAdapter(kind).dump_python(getattr(report, name)) for name, kind in _MEASURED.items()}
    content["calibrations"] = {name: each.to_dict() for name, each in calibrations.items()}
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "evaluation"
        folder.mkdir()
        (folder / "evaluation.json").write_text(json.dumps(content), encoding="utf-8")
        report.predictions.to_parquet(folder / "predictions.parquet", index=False)
        patiently(mlflow.log_artifacts, str(folder), "evaluation")
        log_manifest(Path(parent), folder, {})


def fetch_evaluation(kept: KeptStage) -> tuple[EvaluationReport, dict[str, Calibration]]:
    """Return the comparison of a kept stage.

    Raises:
        DamagedResultError: a file is missing, or not as it was logged.
    """
    with tempfile.TemporaryDirectory() as parent:
        fetch_files(kept, "evaluation", Path(parent))
        folder = Path(parent) / "evaluation"
        content = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
        predictions = pd.read_parquet(folder / "predictions.parquet")
    measured: dict[str, Any] = {
        name: TypeAdapter(kind).validate_python(content[name]) for name, kind in _MEASURED.items()
    }
    calibrations = {name: Calibration.from_dict(each) for name, each in content["calibrations"].items()}
    return EvaluationReport(predictions=predictions, **measured), calibrations


def log_manifest(scratch: Path, folder: Path, facts: Mapping[str, Any]) -> None:
    """Log to the active run, last of all, the hashes of a folder that was logged, and facts."""
    files = {path.name: asdict(digest(path)) for path in sorted(folder.iterdir())}
    (scratch / _MANIFEST).write_text(json.dumps({"files": files, "facts": facts}), encoding="utf-8")
    # Last: without it nothing is kept.
    patiently(mlflow.log_artifact, str(scratch / _MANIFEST), _FOLDER)


def fetch_files(kept: KeptStage, name: str, target: Path) -> dict[str, Any]:
    """Download a folder of artifacts, hold it against its manifest and return the facts that are kept with it.

    Raises:
        DamagedResultError: a file is missing, or not as it was logged.
    """
    run_id = kept.run.info.run_id
    folder = target / name
    shutil.rmtree(folder, ignore_errors=True)  # what a run before left there must not pass for what is kept
    folder.mkdir(parents=True)
    try:
        manifest = json.loads(patiently(mlflow.artifacts.load_text, f"runs:/{run_id}/{_FOLDER}/{_MANIFEST}"))
        for file in manifest["files"]:
            patiently(
                mlflow.artifacts.download_artifacts, run_id=run_id, artifact_path=f"{name}/{file}", dst_path=str(folder)
            )
        verify_contents(folder, {file: FileDigest(**each) for file, each in manifest["files"].items()})
    except (MlflowException, OSError, ValueError, KeyError, TypeError, TamperedModelError, UserError) as error:
        reason = str(error).strip().partition("\n")[0].partition("; take an untouched")[0][:300]
        raise DamagedResultError(
            f"{kept.where}: what it kept cannot be used ({reason}); the stage is done again"
        ) from None
    return manifest["facts"]
