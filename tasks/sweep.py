"""Trials of a sweep, here or on a work pool, and what came of them."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from prefect import task
from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger

from pii_finetune.config import RunConfig
from pii_finetune.errors import BadConfigError, PiiFinetuneError, TrainingPrunedError, TrainingStoppedError
from pii_finetune.metrics import f1_of
from pii_finetune.output_lock import output_lock
from pii_finetune.paths import resolve
from pii_finetune.patience import patiently
from pii_finetune.result_log import log_numbers, log_table
from pii_finetune.source_mark import source_mark
from pii_finetune.splits import Splits
from pii_finetune.sweep.drive import OpenSweep, Start
from pii_finetune.sweep.plot import plot_sweep
from pii_finetune.sweep.space import Space, build_space
from pii_finetune.sweep.study import Outcome, Study, TrialRow
from pii_finetune.sweep.trial_runs import VALIDATION_F1, number_of_check, show_settings, sweep_tags
from pii_finetune.sweep.variants import Variant, config_of, plan_variants
from pii_finetune.tracking import TrackedRun, parent_run
from pii_finetune.training import Adapter
from pii_finetune.validation_f1 import Check
from tasks.artifacts import leave
from tasks.track import tracked_run
from tasks.train import TrialJudge

Train = Callable[[str, str | None, Mapping[str, Any], str, int, TrialJudge], float]


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep is to do: the same for every variant."""

    profile: str
    data: str | None
    variants: Sequence[Variant]
    spaces: Sequence[Space]  # one a variant
    pruning: bool


@dataclass(frozen=True)
class SweepResult:
    """What came of a sweep, for one variant of the model or for the only one."""

    variant: str | None
    run: TrackedRun
    trials: Sequence[TrialRow]
    best: TrialRow | None
    promoted: bool  # the best one, by the ordinary run that follows
    reason: str  # why, or why not


@task(name="plan sweep")
def plan_sweep(
    profile: str,
    data: str | None,
    overrides: Mapping[str, Any],
    grid: Mapping[str, Any],
    ranges: Mapping[str, Any],
    num_trials: int | None,
    variants: Mapping[str, Mapping[str, Any]],
    each_language: bool,
    pruning: bool,
) -> SweepPlan:
    """Check all that the sweep is to try, before anything is trained."""
    planned = plan_variants(profile, data, overrides, variants, each_language)
    spaces = [build_space(config_of(each, profile, data), grid, ranges, num_trials) for each in planned]
    told = ", ".join(each.name for each in planned if each.name) or "one model"
    get_run_logger().info("%s: %d trials each", told, spaces[0].num_trials)
    return SweepPlan(profile, data, planned, spaces, pruning)


@contextmanager
def open_sweep(plan: SweepPlan, number: int) -> Iterator[tuple[OpenSweep, TrackedRun]]:
    """Open a variant's run in MLflow and its study; the same sweep that did not end is gone on with."""
    variant, space = plan.variants[number], plan.spaces[number]
    config = config_of(variant, plan.profile, plan.data)
    text = json.dumps([str(space), plan.pruning], sort_keys=True)
    tags = sweep_tags(hashlib.sha256(text.encode()).hexdigest()[:16], variant.name)
    with tracked_run(config, source_mark(config.data.workbook), tags) as run:
        folder = resolve(config.output_dir) / f"sweep-{run.run_id}"
        with output_lock(folder):
            study = Study(folder / "trials.journal", space, config.seed, pruning=plan.pruning)
            yield OpenSweep(variant.name, variant.overrides, run.run_id, study), run


class _Ended:
    """A trial that ran here, to its end."""

    def __init__(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def checks(self) -> Mapping[int, float]:
        return {}  # reported as they came

    def outcome(self) -> Outcome:
        return self._outcome

    def stop(self) -> None:
        """Nothing is left to stop."""


def trials_here(plan: SweepPlan, train: Train) -> Start:
    """Return what trains a trial in this process, to its end or until it is not worth going on."""

    def start(sweep: OpenSweep, number: int, settings: Mapping[str, Any]) -> _Ended:
        name = f"{sweep.variant}, trial {number}" if sweep.variant else f"trial {number}"
        get_run_logger().info("%s: %s", name, show_settings(settings))

        def judge(stage: str, check: Check) -> bool:
            return sweep.study.report(number, number_of_check(stage, check.part), check.f1)

        try:
            f1 = train(plan.profile, plan.data, {**sweep.overrides, **settings}, sweep.run_id, number, judge)
            outcome = Outcome("done", f1)
        except TrainingPrunedError as pruned:
            outcome = Outcome("stopped early", reason=str(pruned))
        except TrainingStoppedError:
            raise  # the whole sweep was; this trial is gone on with by the next start
        except PiiFinetuneError as error:
            outcome = Outcome("failed", reason=str(error))
        get_run_logger().info("%s: %s", name, outcome.reason or f"F1 {outcome.f1:.4f} on the validation split")
        return _Ended(outcome)

    return start


@task(name="F1 on the validation split")
def measure_trial(config: RunConfig, splits: Splits, dpo: Adapter, run: TrackedRun) -> float:
    """Return, and log, what the trial is compared by."""
    from pii_finetune.scoring import Scorer

    rows = splits.validation
    scorer = Scorer(config.base, {"dpo": dpo.path}, config.evaluation.batch_size)
    scores = scorer.score([(row.label, row.language) for row in rows], "dpo", check_format=False)
    f1 = f1_of([row.sensitive for row in rows], scores.margin > 0)
    with parent_run(run):
        log_numbers({VALIDATION_F1: f1})
    return f1


@task(name="compare trials")
def compare_trials(sweep: OpenSweep, run: TrackedRun) -> TrialRow | None:
    """Show all trials of a variant, and return the best of those that went to their end, if any did."""
    rows, best = sweep.study.rows(), sweep.study.best()
    title = f"{sweep.variant}: {len(rows)} trials" if sweep.variant else f"{len(rows)} trials"
    table = [
        {
            "trial": row.number,
            "best": "*" if row == best else "",
            **dict(row.settings),
            "F1": row.f1 if row.state == "done" else None,
            "state": row.state,
            "reason": row.reason,
        }
        for row in rows
    ]
    with parent_run(run):
        log_table(pd.DataFrame(table), "trials.json")
        patiently(mlflow.log_figure, plot_sweep(rows, best, title), "sweep.png")
        if best is not None and best.f1 is not None:
            patiently(mlflow.set_tag, "best_trial", str(best.number))
            log_numbers({VALIDATION_F1: best.f1})
    leave(create_table_artifact, table, key="sweep", description=f"{title}, by F1 on the validation split")
    if best is not None and best.f1 is not None:
        get_run_logger().info("%s; best is trial %d with F1 %.4f on validation", title, best.number, best.f1)
    return best


@task(name="note what came of it")
def note_result(sweep: OpenSweep, run: TrackedRun, best: TrialRow | None, finished_run: str | None) -> SweepResult:
    """Link the sweep to the ordinary run that judged its best trial, and tell its decision."""
    rows = sweep.study.rows()
    if finished_run is None:
        failed = [row.reason for row in rows if row.state == "failed" and row.reason]
        reason = f"no trial came to its end{f': {failed[0]}' if failed else ''}"
        return SweepResult(sweep.variant, run, rows, None, promoted=False, reason=reason)
    tags = patiently(MlflowClient().get_run, finished_run).data.tags
    promoted, decision = tags["promoted"], tags["decision"]
    with parent_run(run):
        patiently(mlflow.set_tags, {"best_run": finished_run, "promoted": promoted, "decision": decision})
    get_run_logger().info(decision)
    return SweepResult(sweep.variant, run, rows, best, promoted=promoted == "true", reason=decision)


def wait_a_little() -> None:
    """Wait between two looks at trials that run elsewhere."""
    time.sleep(2)


def require_one_at_once(at_once: int) -> None:
    """Raise BadConfigError unless trials that run in this process run one after the other."""
    if at_once != 1:
        raise BadConfigError(
            f"at_once = {at_once}: in one process trials run one after the other; with where=work-pool they are runs "
            "of pii-trial/main, as many at once as you say"
        )
