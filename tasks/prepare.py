"""From what the user gave to rows that can be trained on."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State, TaskRun
from prefect.logging import get_run_logger

from pii_finetune.config import RunConfig
from pii_finetune.data_report import NUM_SHOWN, bad_cells, render_html
from pii_finetune.dataset_log import log_rows, production_rows
from pii_finetune.drift import compare, drift_markdown, drift_table
from pii_finetune.errors import DamagedResultError, MissingServerError
from pii_finetune.kept import find_kept, show_kept
from pii_finetune.kept_validation import fetch_validation, keep_validation
from pii_finetune.measuring_rows import frozen_rows, unseen_rows
from pii_finetune.model_names import model_names
from pii_finetune.paths import resolve
from pii_finetune.patience import patiently
from pii_finetune.records import Record
from pii_finetune.result_log import log_numbers
from pii_finetune.setup import configure_run
from pii_finetune.splits import Splits, split
from pii_finetune.stage_keys import validation_key
from pii_finetune.tracking import TrackedRun, log_datasets, parent_run, stage_run
from pii_finetune.tracking_server import require_server
from pii_finetune.validation import ValidationReport, problem_line, validate
from pii_finetune.workbook import read_workbook
from tasks.artifacts import leave


def _server_is_missing(_task: Any, _task_run: TaskRun, state: State[Any]) -> bool:
    """Whether that is why a task failed: a server that is restarted is back in a moment, a mistake stays one."""
    try:
        state.result()
    except MissingServerError:
        return True
    except Exception:  # noqa: BLE001  told by the task itself
        return False
    return False


# The command line has asked before the flow: who mistyped an address does not wait here.
@task(name="check settings", retries=6, retry_delay_seconds=10, retry_condition_fn=_server_is_missing)
def check_settings(profile: str, data: str | None, overrides: dict[str, Any] | None) -> RunConfig:
    """Build the run's config and check that this machine can run it, before any work is done."""
    config = configure_run(profile, data, overrides or {})
    require_server()
    get_run_logger().info("profile %s, base %s on %s", config.profile, config.base.name, config.base.device)
    return config


@task(name="validate workbook")
def validate_workbook(config: RunConfig, run: TrackedRun, force: bool = False) -> ValidationReport:
    """Validate the workbook, or find that its rows were found valid before; Data Docs and the report are in MLflow."""
    docs = resolve(config.output_dir) / run.run_id / "data-docs"
    table = read_workbook(config.data)
    key = validation_key(config, table)
    if not force and (kept := find_kept(run, key)):
        try:
            report = fetch_validation(kept, table, docs)
        except DamagedResultError as damaged:
            get_run_logger().warning(str(damaged))
        else:
            show_kept(run, "validate", kept)
            get_run_logger().info("validate: kept from %s; --force would validate again", kept.where)
            _show(report, docs, run)
            return report
    with stage_run(run, "validate", config, key):
        report = validate(table, docs, config.data, advice_seed=config.data.seed)
        _show(report, docs, run)
        keep_validation(report.require_valid(), docs)
    return report


def _show(report: ValidationReport, docs: Path, run: TrackedRun) -> None:
    client = MlflowClient()
    patiently(client.log_artifacts, run.run_id, str(docs), "data-docs")
    patiently(client.log_text, run.run_id, render_html(report, report.advice), "data-report.html")
    if cells := bad_cells(report):
        leave(
            create_table_artifact,
            [asdict(cell) for cell in cells[:NUM_SHOWN]],
            key="bad-rows",
            description=f"{'Left out' if report.dropped else 'To mend'}: {len(cells):,} cells"
            + (f", the first {NUM_SHOWN:,} of them here" if len(cells) > NUM_SHOWN else ""),
        )
    lines = "\n".join(f"- {problem_line(problem)}" for problem in report.problems) or "All expectations hold."
    lines += "".join(f"\n- left out: {problem_line(problem)}" for problem in report.dropped)
    lines += "".join(f"\n- {note}" for note in report.notes)
    lines += "".join(f"\n- {count:,} {what}" for what, count in report.normalised.items())
    lines += "".join(f"\n- {each.kind.replace('_', ' ')}: {each.message}" for each in report.advice)
    leave(
        create_markdown_artifact,
        f"### {report.path.name}\n\n"
        f"{report.num_expectations - len(report.problems)} of {report.num_expectations} expectations hold. "
        f"{report.num_rows:,} rows, {len(report.records):,} used, {report.num_cleaned:,} labels cleaned, "
        f"{report.num_duplicates:,} duplicates left out. "
        f"Columns not used: {', '.join(report.extra_columns) or 'none'}.\n\n{lines}",
        key="validation",
        description="Great Expectations on the workbook",
    )
    for note in report.notes:
        get_run_logger().info(note)
    get_run_logger().info("%s: %d rows, fingerprint %s", report.path.name, len(report.records), report.fingerprint[:12])


@task(name="compare with production's data")
def compare_with_production(config: RunConfig, report: ValidationReport, run: TrackedRun) -> None:
    """Log what changed since the rows that the model in production was trained on, if there is one."""
    old = production_rows(model_names(config.variant).dpo)
    with parent_run(run):
        log_rows(report.records)
        if old is None:
            return
        drift = compare(old, report.records)
        patiently(mlflow.log_text, drift_markdown(drift), "data-drift.md")
        patiently(mlflow.log_dict, {"changes": drift_table(drift)}, "data-drift.json")
        log_numbers(
            {
                "rows_added": len(drift.added),
                "rows_removed": len(drift.removed),
                "rows_relabelled": len(drift.relabelled),
                "language_shift": drift.language_shift,
            }
        )
    leave(
        create_markdown_artifact,
        drift_markdown(drift),
        key="data-drift",
        description="What changed since the data of the model in production",
    )
    get_run_logger().info("since the data of the model in production: %s", drift.summary)


@task(name="prepare splits")
def prepare_splits(config: RunConfig, report: ValidationReport, run: TrackedRun) -> Splits:
    """Split the rows and log the dataset and its sides to MLflow."""
    splits = split(report.records, config.data, frozen_rows(config.data))
    sides = {"training": splits.train, "validation": splits.validation, "testing": splits.test}
    with parent_run(run):
        log_datasets(report.path, report.fingerprint, {"dataset": report.records, **sides})
        log_numbers({"rows_withheld": splits.num_withheld})
    leave(
        create_table_artifact,
        [
            {
                "split": name,
                "rows": len(side),
                "sensitive": sum(r.sensitive for r in side),
                "languages": len({r.language for r in side}),
            }
            for name, side in sides.items()
        ],
        key="splits",
        description="Leak-free splits, stratified by language and answer",
    )
    if splits.num_withheld:
        get_run_logger().info("%d rows withheld: variants of labels in data.frozen_test", splits.num_withheld)
    return splits


@task(name="read unseen concepts")
def read_unseen(config: RunConfig) -> Sequence[Record]:
    """Read the rows that measure what the model knows beyond the workbook."""
    rows = unseen_rows(config.data)
    if config.data.unseen is not None and not rows:
        get_run_logger().info("data.unseen: no row is in the languages of data.languages, so nothing is measured there")
    return rows


def stage_folder(config: RunConfig, stage: str, key: str) -> Path:
    """Return the folder a stage writes to, the same for every run that would make the same."""
    return resolve(config.output_dir) / f"{stage}-{key[:16]}"
