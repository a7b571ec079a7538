"""The flow `pii-trial`: one training of a sweep, measured on the validation split."""

from collections.abc import Mapping
from typing import Any, cast

from prefect import flow
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled

from pii_finetune.errors import TrainingStoppedError
from pii_finetune.lost_reader import outlive_readers
from pii_finetune.quiet import quiet_libraries
from pii_finetune.sweep.trial_runs import trial_tags
from tasks.data_age import note_source
from tasks.gpu import gpu_to_itself
from tasks.logs import show_user_errors_plainly, show_what_the_package_says
from tasks.prepare import check_settings, prepare_splits, validate_workbook
from tasks.sweep import measure_trial
from tasks.track import tracked_run
from tasks.train import TrialJudge, train_dpo, train_sft


@flow(name="pii-trial", validate_parameters=True)
def trial(
    sweep_run: str,
    number: int,
    profile: str = "embedded",
    data: str | None = None,
    overrides: dict[str, Any] | None = None,
) -> float:
    """Train SFT and DPO, and return F1 on the validation split; started by `pii-sweep`, which compares trials.

    Args:
        sweep_run: the sweep's run in MLflow.
        number: the trial's.
        profile: the recipe.
        data: the workbook.
        overrides: settings by dotted path.
    """
    show_user_errors_plainly()
    show_what_the_package_says()
    quiet_libraries()
    outlive_readers()
    try:
        return train_trial(profile, data, overrides or {}, sweep_run, number, lambda _stage, _check: True)
    except (TrainingStoppedError, TerminationSignal) as stopped:
        return cast("Any", Cancelled(message=str(stopped) or "stopped by SIGTERM"))


def train_trial(
    profile: str, data: str | None, overrides: Mapping[str, Any], sweep_run: str, number: int, judge: TrialJudge
) -> float:
    """Train as the flow `pii-finetune` does, as a run nested in the sweep's, and return F1 on the validation split."""
    config = check_settings(profile, data, dict(overrides))
    with tracked_run(config, note_source(config), trial_tags(sweep_run, number)) as run:
        workbook = validate_workbook(config, run)
        splits = prepare_splits(config, workbook, run)
        with gpu_to_itself(config):
            sft = train_sft(config, splits, run, judge=judge)
            dpo = train_dpo(config, splits, sft, run, judge=judge)
            return measure_trial(config, splits, dpo, run)
