"""A sweep and its trials in MLflow: how their runs are tagged, and what is read back from them."""

from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run

from pii_finetune.patience import patiently
from pii_finetune.tracking import PART_OF_SWEEP
from pii_finetune.validation_f1 import NUM_CHECKS

VALIDATION_F1, QUARTERS_DONE = "validation_f1", "quarters_done"
_FIRST_CHECK = {"sft": 0, "dpo": NUM_CHECKS}


def sweep_tags(plan: str, variant: str | None) -> dict[str, str]:
    """Return what tells a sweep's run from others; `plan` is a hash of all that it is to try."""
    return {PART_OF_SWEEP: plan, "mlflow.runName": f"sweep-{variant}" if variant else "sweep"}


def trial_tags(sweep_run: str, number: int) -> dict[str, str]:
    """Return what makes a run the trial of this number, nested in its sweep's."""
    return {
        PART_OF_SWEEP: sweep_run,
        "trial": str(number),
        "mlflow.parentRunId": sweep_run,
        "mlflow.runName": f"trial-{number}",
    }


def find_trial(sweep_run: str, number: int) -> Run | None:
    """Return a trial's run, if it was begun."""
    client = MlflowClient()
    experiment = patiently(client.get_run, sweep_run).info.experiment_id
    found = patiently(
        client.search_runs,
        [experiment],
        f"tags.mlflow.parentRunId = '{sweep_run}' and tags.trial = '{number}'",
        max_results=1,
    )
    return found[0] if found else None


def number_of_check(stage: str, part: int) -> int:
    """Return which check of a trial it is, counted from 1: DPO's follow those of SFT."""
    return _FIRST_CHECK[stage] + part


def checks_of(trial: Run) -> dict[int, float]:
    """Return a trial's F1 on the validation split by check, as far as it is."""
    client = MlflowClient()
    stages = patiently(
        client.search_runs, [trial.info.experiment_id], f"tags.mlflow.parentRunId = '{trial.info.run_id}'"
    )
    checks: dict[int, float] = {}
    for run in stages:
        stage = run.data.tags.get("stage")
        if stage in _FIRST_CHECK and VALIDATION_F1 in run.data.metrics:
            f1, parts = (
                {point.step: point.value for point in patiently(client.get_metric_history, run.info.run_id, name)}
                for name in (VALIDATION_F1, QUARTERS_DONE)
            )
            checks |= {number_of_check(stage, int(parts[step])): f1[step] for step in f1 if step in parts}
    return checks


def show_settings(settings: Mapping[str, Any]) -> str:
    """Return a trial's settings on one line."""
    return ", ".join(f"{path} = {value}" for path, value in settings.items()) or "as the profile has it"
