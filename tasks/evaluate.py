"""The comparison of models."""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import mlflow
from prefect import task
from prefect.artifacts import create_table_artifact

from pii_finetune.config import RunConfig
from pii_finetune.evaluation import EvaluationReport, Model, evaluate
from pii_finetune.plots import plot_confusion, plot_languages, plot_models
from pii_finetune.records import Record
from pii_finetune.registry import DPO_MODEL, fetch_model_folder, production_version
from pii_finetune.splits import Splits
from pii_finetune.tracking import TrackedRun, stage_run
from pii_finetune.training import Adapter
from tasks.progress import Progress


@task(name="evaluate")
def evaluate_models(
    config: RunConfig, splits: Splits, unseen: Sequence[Record], sft: Adapter, dpo: Adapter, run: TrackedRun
) -> EvaluationReport:
    """Score original, SFT, DPO and the model now in production on the test split and on unseen concepts."""
    progress = Progress("evaluation-progress", "models evaluated")
    with stage_run(run, "evaluate", config), tempfile.TemporaryDirectory() as folder:
        models = _models(config, sft, dpo, Path(folder))
        report = evaluate(models, splits.test, unseen, progress)
        _log(report)
    create_table_artifact(
        report.summary_rows(),
        key="evaluation",
        description="Test split; unseen_accuracy: concepts that are in no training text",
    )
    return report


def _models(config: RunConfig, sft: Adapter, dpo: Adapter, folder: Path) -> dict[str, Model]:
    from pii_finetune.model_folder import load_model_folder
    from pii_finetune.scoring import Scorer

    scorer = Scorer(config.base, {"sft": sft.path, "dpo": dpo.path}, config.evaluation.batch_size)
    models: dict[str, Model] = {
        "original": partial(scorer.score, adapter=None),
        "sft": partial(scorer.score, adapter="sft"),
        "dpo": partial(scorer.score, adapter="dpo"),
    }
    if (production := production_version(DPO_MODEL)) is not None:
        served = load_model_folder(
            fetch_model_folder(DPO_MODEL, str(production.version), folder), config.evaluation.batch_size
        )
        models["production"] = partial(served.score, adapter="served")
    return models


def _log(report: EvaluationReport) -> None:
    for name, metrics in report.test.items():
        mlflow.log_metrics({f"{name}_{key}": value for key, value in metrics.as_dict().items()})
    for name, metrics in report.unseen.items():
        mlflow.log_metrics({f"{name}_unseen_{key}": value for key, value in metrics.as_dict().items()})
    for name, languages in report.by_language.items():
        mlflow.log_metrics({f"{name}_f1_{language}": metrics.f1 for language, metrics in languages.items()})
    mlflow.log_figure(plot_models(report.test), "models.png")
    mlflow.log_figure(plot_confusion(report), "confusion.png")
    mlflow.log_figure(plot_languages(report), "languages.png")
    mlflow.log_table(report.predictions, "predictions.json")
    by_language = [
        {"model": name, "language": language, **metrics.as_dict()}
        for name, languages in report.by_language.items()
        for language, metrics in languages.items()
    ]
    mlflow.log_table({key: [row[key] for row in by_language] for key in by_language[0]}, "languages.json")
