"""The flow `pii-sweep`: many trainings, of which the best is judged and promoted as any other."""

from contextlib import ExitStack
from typing import Any, Literal, cast

from prefect import flow
from prefect.exceptions import CancelledRun, TerminationSignal
from prefect.states import Cancelled

from flows.finetune import finetune
from flows.trial import train_trial
from pii_finetune.errors import PiiFinetuneError, TrainingStoppedError
from pii_finetune.hub_dataset import absolute_source
from pii_finetune.lost_reader import outlive_readers
from pii_finetune.quiet import quiet_libraries
from pii_finetune.sweep.drive import OpenSweep, drive
from tasks.logs import show_user_errors_plainly, show_what_the_package_says
from tasks.prepare import check_settings
from tasks.sweep import (
    SweepPlan,
    SweepResult,
    compare_trials,
    note_result,
    open_sweep,
    plan_sweep,
    require_one_at_once,
    trials_here,
    wait_a_little,
)
from tasks.trial_pool import check_pool, judge_on_pool, trials_on_pool


@flow(name="pii-sweep", validate_parameters=True)
def sweep(
    profile: str = "embedded",
    data: str | None = None,
    overrides: dict[str, Any] | None = None,
    grid: dict[str, list[Any]] | None = None,
    ranges: dict[str, list[Any]] | None = None,
    num_trials: int | None = None,
    variants: dict[str, dict[str, Any]] | None = None,
    each_language: bool = False,
    pruning: bool = True,
    where: Literal["here", "work-pool"] = "here",
    at_once: int = 1,
) -> list[SweepResult]:
    """Train with many settings, stop early what others are ahead of, and have the best judged and promoted as usual.

    Args:
        profile: the recipe that trials differ from.
        data: the workbook, or a folder of tables, or a URL of either; by default the profile's own.
        overrides: settings by dotted path that all trials share.
        grid: settings with a list of values each; without ranges all combinations are tried.
        ranges: settings with [low, high] or [low, high, "log"] each.
        num_trials: how many to draw where there are ranges.
        variants: models of their own by name, each with the settings that make it, e.g. {"hr": {"data.workbook":
            "hr.xlsx"}}: each has its own trials, and its best is promoted as pii-dpo-NAME.
        each_language: a variant for each language of the data.
        pruning: whether to stop trials early.
        where: trials run in this process, one after the other, or on the work pool.
        at_once: how many of them at a time on the work pool.
    """
    show_user_errors_plainly()
    show_what_the_package_says()
    quiet_libraries()
    outlive_readers()
    check_settings(profile, data, overrides)
    if where == "work-pool":
        check_pool(at_once)
        data = absolute_source(data) if data is not None else None
    else:
        require_one_at_once(at_once)
    plan = plan_sweep(
        profile, data, overrides or {}, grid or {}, ranges or {}, num_trials, variants or {}, each_language, pruning
    )
    try:
        return _sweep(plan, where, at_once)
    except (TrainingStoppedError, TerminationSignal) as stopped:
        told = str(stopped) or "stopped by SIGTERM; the same sweep goes on from what is finished"
        return cast("Any", Cancelled(message=told))


def _sweep(plan: SweepPlan, where: str, at_once: int) -> list[SweepResult]:
    start = trials_here(plan, train_trial) if where == "here" else trials_on_pool(plan)
    results: list[SweepResult] = []
    unjudged: list[PiiFinetuneError] = []
    with ExitStack() as stack:
        opened = [stack.enter_context(open_sweep(plan, number)) for number in range(len(plan.variants))]
        drive([each for each, _ in opened], start, at_once, wait_a_little)
        for each, run in opened:
            best = compare_trials(each, run)
            try:
                judged = None if best is None else _judge(plan, each, dict(best.settings), where)
            except TrainingStoppedError:
                raise
            except PiiFinetuneError as error:  # the other variants are judged all the same
                unjudged.append(error)
                continue
            results.append(note_result(each, run, best, judged))
        if unjudged:
            raise unjudged[0]
    return results


def _judge(plan: SweepPlan, each: OpenSweep, settings: dict[str, Any], where: str) -> str:
    if where == "work-pool":
        return judge_on_pool(plan, each, settings)
    try:
        run, *_ = finetune(plan.profile, plan.data, {**each.overrides, **settings})
    except CancelledRun as stopped:  # the signal that reached it was meant for the sweep
        raise TrainingStoppedError("stopped by SIGTERM; the same sweep goes on from what is finished") from stopped
    return run.run_id
