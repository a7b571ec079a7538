"""The flow `pii-finetune`: from a workbook to a model in production, if it is better than the one there."""

from typing import Any, cast

from prefect import flow
from prefect.exceptions import TerminationSignal
from prefect.states import Cancelled

from pii_finetune.config import RunConfig
from pii_finetune.errors import TrainingStoppedError
from pii_finetune.evaluation import EvaluationReport
from pii_finetune.gate import Decision
from pii_finetune.lost_reader import outlive_readers
from pii_finetune.quiet import quiet_libraries
from pii_finetune.tracking import TrackedRun
from tasks.data_age import check_data_is_newest, note_source
from tasks.evaluate import check_production, evaluate_models
from tasks.gpu import gpu_to_itself
from tasks.logs import show_user_errors_plainly, show_what_the_package_says
from tasks.prepare import check_settings, compare_with_production, prepare_splits, read_unseen, validate_workbook
from tasks.promote import RegisteredPair, decide_promotion, promote_models, register_models, write_report
from tasks.track import tracked_run
from tasks.train import train_dpo, train_sft

Outcome = tuple[TrackedRun, EvaluationReport, RegisteredPair, Decision]


@flow(name="pii-finetune", validate_parameters=True)
def finetune(
    profile: str = "embedded", data: str | None = None, overrides: dict[str, Any] | None = None, force: bool = False
) -> Outcome:
    """Validate, train, evaluate, decide, promote.

    Args:
        profile: the recipe: embedded, seed or fast.
        data: the workbook, or a folder of tables, or a URL of either; by default the profile's own.
        overrides: settings by dotted path, e.g. {"sft.learning_rate": 1e-3}.
        force: repeat stages that an earlier run of the same data and settings finished.
    """
    show_user_errors_plainly()
    show_what_the_package_says()
    quiet_libraries()
    outlive_readers()
    config = check_settings(profile, data, overrides)
    try:
        return _finetune(config, force)
    except (TrainingStoppedError, TerminationSignal) as stopped:
        told = str(stopped) or "stopped by SIGTERM; a rerun goes on from what is finished"
        return cast("Any", Cancelled(message=told))  # Prefect takes a state that is returned as the run's own


def _finetune(config: RunConfig, force: bool) -> Outcome:
    mark = note_source(config)
    with tracked_run(config, mark) as run:
        check_production(config)
        workbook = validate_workbook(config, run, force)
        compare_with_production(config, workbook, run)
        unseen = read_unseen(config)
        splits = prepare_splits(config, workbook, run)
        with gpu_to_itself(config):
            sft = train_sft(config, splits, run, force)
            dpo = train_dpo(config, splits, sft, run, force)
            evaluated = evaluate_models(config, splits, unseen, sft, dpo, run, force)
        decision = decide_promotion(config, evaluated, run)
        newest = check_data_is_newest(config, workbook, mark, run)
        write_report(config, workbook, splits, evaluated, decision, run, newest)
        pair = register_models(config, {"sft": sft, "dpo": dpo}, workbook, splits, evaluated, decision, run)
        if decision.promote:
            promote_models(pair, evaluated, decision)
    return run, evaluated.report, pair, decision
