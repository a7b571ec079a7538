"""Where a model comes from, as plain words: for its card, its report and its tags in the registry."""

import platform
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version

from pii_finetune.base_model import identify, local_folder
from pii_finetune.calibration import Calibration
from pii_finetune.config import RunConfig
from pii_finetune.evaluation import EvaluationReport
from pii_finetune.gate import Decision
from pii_finetune.intervals import Interval
from pii_finetune.metrics import Metrics
from pii_finetune.model_card import CardFacts, Figure, GateRow
from pii_finetune.plots import NAMES
from pii_finetune.records import Record
from pii_finetune.setup import describe_settings
from pii_finetune.splits import Splits
from pii_finetune.tracking import TrackedRun, git_commit
from pii_finetune.validation import ValidationReport

_LIBRARIES = ("torch", "transformers", "trl", "peft", "mlflow")
_IN_CARD = ("accuracy", "precision", "recall", "f1", "auroc", "brier", "ece", "format_validity")
_RECIPE = ("base.", "lora.", "sft.", "dpo.", "calibration.", "seed", "data.seed")
_LICENSE = "apache-2.0"


def describe_data(workbook: ValidationReport, splits: Splits) -> dict[str, str]:
    """Return what was trained on and how it was split."""
    sides = {"training": splits.train, "validation": splits.validation, "test": splits.test}
    facts = {
        "workbook": workbook.where,
        "fingerprint": workbook.fingerprint,
        "rows": f"{len(workbook.records):,}, of them sensitive {sum(r.sensitive for r in workbook.records):,}",
        "split": ", ".join(f"{name} {len(side):,}" for name, side in sides.items()),
        "languages": ", ".join(sorted({r.language for r in workbook.records})),
    }
    if splits.num_withheld:
        facts["withheld"] = f"{splits.num_withheld:,} rows that are labels of the frozen test set too"
    return facts


def describe_origin(config: RunConfig, run: TrackedRun, tags: Mapping[str, str]) -> dict[str, str]:
    """Return base, code, run and versions; `tags` are further facts of the run."""
    base = identify(config.base)
    return {
        "profile": config.profile,
        "base model": f"{base.name}, revision {base.revision or 'none'}, config {base.config_sha256[:12]}",
        "code": git_commit(),
        "MLflow run": run.url,
        **tags,
        "versions": ", ".join(f"{name} {version(name)}" for name in _LIBRARIES),
        "machine": f"{platform.platform(terse=True)}, Python {platform.python_version()}, {config.base.device}",
    }


def card_facts(
    model_name: str,
    stage: str,
    config: RunConfig,
    workbook: ValidationReport,
    splits: Splits,
    report: EvaluationReport,
    calibration: Calibration,
    decision: Decision,
    origin: Mapping[str, str],
) -> CardFacts:
    """Return what the card of one adapter of a run says; `stage` is its name in the evaluation."""
    base = identify(config.base)
    recipe = {path: value for path, value in describe_settings(config).items() if path.startswith(_RECIPE)}
    return CardFacts(
        model_name=model_name,
        model_uri=f"models:/{model_name}/Production",
        license=_LICENSE,
        base_name=base.name,
        base_revision=base.revision,
        base_is_on_hub=local_folder(config.base) is None,
        dataset_name=workbook.path.name,
        dataset_fingerprint=workbook.fingerprint,
        num_rows=_rows_by_language({"train": splits.train, "validation": splits.validation, "test": splits.test}),
        recipe=recipe,
        candidate=NAMES[stage],
        evaluation={NAMES[name]: _figures(each, report.intervals[name]) for name, each in report.test.items()},
        unseen={NAMES[name]: _figures(each, {}) for name, each in report.unseen.items()},
        by_language={language: _figures(each, {}) for language, each in report.by_language[stage].items()},
        calibration={"method": calibration.method, "what it does": calibration.describe()},
        decision=decision.reason,
        gate=tuple(
            GateRow(rule.name, f"{rule.value:.4f}", f"{rule.threshold:.4f}", rule.passed) for rule in decision.rules
        ),
        provenance=origin,
    )


def _rows_by_language(sides: Mapping[str, tuple[Record, ...]]) -> dict[str, dict[str, int]]:
    counts = {side: Counter(record.language for record in records) for side, records in sides.items()}
    languages = sorted({language for each in counts.values() for language in each})
    return {language: {side: counts[side][language] for side in sides} for language in languages}


def _figures(metrics: Metrics, intervals: Mapping[str, Interval]) -> dict[str, Figure]:
    measured = metrics.as_dict()
    return {
        name: Figure(measured[name], intervals[name].low, intervals[name].high)
        if name in intervals
        else Figure(measured[name])
        for name in _IN_CARD
    }
