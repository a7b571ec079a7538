"""The two trainings."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import mlflow
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from pii_finetune.config import RunConfig
from pii_finetune.errors import DamagedResultError
from pii_finetune.kept import fetch_adapter, find_kept, keep_adapter, show_kept
from pii_finetune.output_lock import output_lock
from pii_finetune.patience import patiently
from pii_finetune.plots import plot_training
from pii_finetune.splits import Splits
from pii_finetune.stage_keys import dpo_key, sft_key
from pii_finetune.sweep.trial_runs import QUARTERS_DONE, VALIDATION_F1
from pii_finetune.telemetry import sending_metrics
from pii_finetune.tracking import TrackedRun, stage_run
from pii_finetune.training import Adapter, OnUpdate, TrainingUpdate
from pii_finetune.validation_f1 import Check, Judge
from tasks.prepare import stage_folder
from tasks.progress import Progress

TrialJudge = Callable[[str, Check], bool]  # stage, what was measured -> whether the trial goes on
Train = Callable[[Path, OnUpdate, Judge | None], Adapter]


@task(name="SFT", cache_policy=NO_CACHE)
def train_sft(
    config: RunConfig, splits: Splits, run: TrackedRun, force: bool = False, judge: TrialJudge | None = None
) -> Adapter:
    """Fine-tune the base: supervised, QLoRA where the profile says so."""
    from pii_finetune.sft import train_sft as train

    def train_it(folder: Path, on_update: OnUpdate, asked: Judge | None) -> Adapter:
        return train(splits, config, folder, on_update, asked)

    return _once("sft", sft_key(config, splits), config, run, force, train_it, judge)


@task(name="DPO", cache_policy=NO_CACHE)
def train_dpo(
    config: RunConfig,
    splits: Splits,
    sft: Adapter,
    run: TrackedRun,
    force: bool = False,
    judge: TrialJudge | None = None,
) -> Adapter:
    """Train the SFT adapter further on preferences."""
    from pii_finetune.dpo import train_dpo as train

    def train_it(folder: Path, on_update: OnUpdate, asked: Judge | None) -> Adapter:
        return train(splits, sft, config, folder, on_update, asked)

    return _once("dpo", dpo_key(config, splits), config, run, force, train_it, judge)


def _once(
    stage: str, key: str, config: RunConfig, run: TrackedRun, force: bool, train: Train, judge: TrialJudge | None
) -> Adapter:
    """Return the adapter of this key: kept by a run before, or trained, from the last checkpoint if there is one."""
    folder = stage_folder(config, stage, key)
    with output_lock(folder):
        if force:
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        elif kept := find_kept(run, key):
            try:
                adapter = fetch_adapter(kept, folder)
            except DamagedResultError as damaged:
                get_run_logger().warning(str(damaged))
            else:
                show_kept(run, stage, kept)
                get_run_logger().info("%s: kept from %s; --force would train again", stage.upper(), kept.where)
                return adapter
        adapter = _train(stage, key, config, run, folder, train, judge)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # the adapter is in MLflow
        return adapter


def _train(
    stage: str, key: str, config: RunConfig, run: TrackedRun, folder: Path, train: Train, judge: TrialJudge | None
) -> Adapter:
    """Train in a child run of MLflow: a metric for every figure of every step, the loss curve, the adapter."""
    progress = Progress(f"{stage}-progress", f"{stage.upper()} training")
    with stage_run(run, stage, config, key) as child:
        with sending_metrics(child, folder, config.tracking) as metrics:

            def on_update(update: TrainingUpdate) -> None:
                metrics.log(update.metrics, update.step)
                progress.show_training(update)

            def on_check(check: Check, ask: TrialJudge) -> bool:
                metrics.log({VALIDATION_F1: check.f1, QUARTERS_DONE: check.part}, check.step)
                return ask(stage, check)

            patiently(mlflow.log_params, getattr(config, stage).model_dump() | config.lora.model_dump())
            adapter = train(folder, on_update, None if judge is None else partial(on_check, ask=judge))
        if adapter.fallback is not None:
            patiently(mlflow.set_tag, "fused_fallback", adapter.fallback)
            get_run_logger().warning("TRL's own trainer ran instead of the fused one: %s", adapter.fallback)
        if adapter.micro_batch_after_oom is not None:
            patiently(mlflow.set_tag, "micro_batch_after_oom", adapter.micro_batch_after_oom)
        curves = plot_training(stage, adapter.curves["loss"], adapter.curves["eval_loss"])
        patiently(mlflow.log_figure, curves, "loss.png")
        keep_adapter(adapter)
    return adapter
