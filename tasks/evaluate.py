"""Calibration, and the comparison of models."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger

from pii_finetune.baselines import fit_ngram_baseline
from pii_finetune.calibration import Calibration, fit_calibration
from pii_finetune.config import RunConfig
from pii_finetune.errors import DamagedResultError
from pii_finetune.evaluation import EvaluationReport, Model, evaluate
from pii_finetune.kept import fetch_evaluation, find_kept, keep_evaluation, show_kept
from pii_finetune.model_check import naming, verify_model_folder
from pii_finetune.model_names import model_names
from pii_finetune.patience import patiently
from pii_finetune.plots import plot_confusion, plot_languages, plot_models
from pii_finetune.records import Record
from pii_finetune.registry import fetch_model_folder, production_version
from pii_finetune.result_log import log_numbers, log_table
from pii_finetune.rule_baseline import answer_by_rules
from pii_finetune.splits import Splits, number_groups
from pii_finetune.stage_keys import evaluation_key
from pii_finetune.tracking import TrackedRun, stage_run
from pii_finetune.training import Adapter
from tasks.artifacts import leave
from tasks.progress import Progress

BASELINES = ("n-grams", "rules")
_ENDS = ("low", "high")
_TRAINED = ("sft", "dpo")


@dataclass(frozen=True)
class Evaluated:
    """What came of the comparison."""

    report: EvaluationReport
    calibrations: Mapping[str, Calibration]  # of the adapters of this run
    production: str | None  # the version the candidate was compared with


@task(name="check production")
def check_production(config: RunConfig) -> None:
    """Verify the model in production, if there is one: hours of training should not end at a damaged file."""
    name = model_names(config.variant).dpo
    version = production_version(name)
    if version is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        uri = f"models:/{name}/{version.version}"
        fetched = fetch_model_folder(uri, Path(folder))
        with naming(uri, Path(folder)):
            verify_model_folder(fetched, accept_unhashed=True)


@task(name="evaluate")
def evaluate_models(
    config: RunConfig,
    splits: Splits,
    unseen: Sequence[Record],
    sft: Adapter,
    dpo: Adapter,
    run: TrackedRun,
    force: bool = False,
) -> Evaluated:
    """Calibrate on the validation split, then score every model on the test split and on unseen concepts."""
    version = production_version(model_names(config.variant).dpo)
    production = None if version is None else str(version.version)
    key = evaluation_key(config, splits, unseen, production)
    if not force and (kept := find_kept(run, key)):
        try:
            report, calibrations = fetch_evaluation(kept)
        except DamagedResultError as damaged:
            get_run_logger().warning(str(damaged))
        else:
            show_kept(run, "evaluate", kept)
            get_run_logger().info("evaluation: kept from %s; --force would evaluate again", kept.where)
            return Evaluated(report, calibrations, production)
    report, calibrations = _evaluate(config, splits, unseen, {"sft": sft, "dpo": dpo}, production, key, run)
    leave(
        create_table_artifact,
        report.summary_rows(),
        key="evaluation",
        description="Test split; unseen_accuracy: concepts that are in no training text",
    )
    get_run_logger().info("DPO: %s", calibrations["dpo"].describe())
    return Evaluated(report, calibrations, production)


def _evaluate(
    config: RunConfig,
    splits: Splits,
    unseen: Sequence[Record],
    trained: Mapping[str, Adapter],
    production: str | None,
    key: str,
    run: TrackedRun,
) -> tuple[EvaluationReport, Mapping[str, Calibration]]:
    from pii_finetune.scoring import Scorer

    progress = Progress("evaluation-progress", "models evaluated")
    with stage_run(run, "evaluate", config, key), tempfile.TemporaryDirectory() as folder:
        paths = {name: adapter.path for name, adapter in trained.items()}
        scorer = Scorer(config.base, paths, config.evaluation.batch_size)
        adapters: dict[str, Model] = {name: partial(scorer.score, adapter=name) for name in _TRAINED}
        calibrations = {name: _calibrate(config, splits, model) for name, model in adapters.items()}
        models: dict[str, Model] = {"original": partial(scorer.score, adapter=None), **adapters}
        if production is not None:
            models["production"] = load_production(config, production, Path(folder))
        models["n-grams"] = fit_ngram_baseline(splits.train, config.seed)
        models["rules"] = answer_by_rules
        perturbed = [name for name in ("dpo", "production", "n-grams") if name in models]
        report = evaluate(models, splits.test, unseen, progress, calibrations, perturbed, config.seed)
        _log(report, calibrations)
        keep_evaluation(report, calibrations)
    return report, calibrations


def _calibrate(config: RunConfig, splits: Splits, model: Model) -> Calibration:
    rows = splits.validation
    scores = model([(r.label, r.language) for r in rows])
    return fit_calibration(
        scores.margin,
        np.array([r.sensitive for r in rows]),
        number_groups([r.label for r in rows]),
        config.calibration,
        config.seed,
    )


def load_production(config: RunConfig, version: str, folder: Path) -> Model:
    """Load the model in production, which answers with the calibration it was registered with."""
    from pii_finetune.model_folder import load_model_folder

    fetched = fetch_model_folder(f"models:/{model_names(config.variant).dpo}/{version}", folder)
    return load_model_folder(fetched, config.evaluation.batch_size, accept_unhashed=True).score


def _log(report: EvaluationReport, calibrations: Mapping[str, Calibration]) -> None:
    numbers: dict[str, float] = {}
    for name, metrics in report.test.items():
        numbers |= {f"{name}_{key}": value for key, value in metrics.as_dict().items()}
        for key, interval in report.intervals[name].items():
            numbers |= {f"{name}_{key}_{end}": getattr(interval, end) for end in _ENDS}
    for name, metrics in report.unseen.items():
        numbers |= {f"{name}_unseen_{key}": value for key, value in metrics.as_dict().items()}
    for name, languages in report.by_language.items():
        numbers |= {f"{name}_f1_{language}": metrics.f1 for language, metrics in languages.items()}
    for name, flips in report.flips.items():
        numbers |= {f"{name}_flips_{kind.replace(' ', '_')}": rate.share for kind, rate in flips.items()}
    log_numbers(numbers)
    patiently(mlflow.log_dict, {name: each.to_dict() for name, each in calibrations.items()}, "calibration.json")
    patiently(mlflow.log_figure, plot_models(report.test), "models.png")
    patiently(mlflow.log_figure, plot_confusion(report), "confusion.png")
    patiently(mlflow.log_figure, plot_languages(report), "languages.png")
    log_table(report.predictions, "predictions.json")
    for name, parts in (("languages", report.by_language), ("categories", report.by_category)):
        rows = [
            {"model": model, name: part, **metrics.as_dict()}
            for model, measured in parts.items()
            for part, metrics in measured.items()
        ]
        if rows:
            log_table(pd.DataFrame(rows), f"{name}.json")
