"""The two trainings."""

from collections.abc import Callable
from pathlib import Path

import mlflow
from prefect import get_run_logger, task

from pii_finetune.config import RunConfig
from pii_finetune.plots import plot_training
from pii_finetune.splits import Splits
from pii_finetune.tracking import TrackedRun, stage_run
from pii_finetune.training import Adapter, OnUpdate, TrainingUpdate
from tasks.prepare import stage_folder
from tasks.progress import Progress


@task(name="SFT")
def train_sft(config: RunConfig, splits: Splits, run: TrackedRun) -> Adapter:
    """Fine-tune the base: supervised, QLoRA where the profile says so."""
    from pii_finetune.sft import train_sft as train

    return _train("sft", config, run, lambda folder, on_update: train(splits, config, folder, on_update))


@task(name="DPO")
def train_dpo(config: RunConfig, splits: Splits, sft: Adapter, run: TrackedRun) -> Adapter:
    """Train the SFT adapter further on preferences."""
    from pii_finetune.dpo import train_dpo as train

    return _train("dpo", config, run, lambda folder, on_update: train(splits, sft, config, folder, on_update))


def _train(stage: str, config: RunConfig, run: TrackedRun, train: Callable[[Path, OnUpdate], Adapter]) -> Adapter:
    """Train in a child run of MLflow: a metric for every figure of every step, the loss curve, the adapter."""
    progress = Progress(f"{stage}-progress", f"{stage.upper()} training")
    curves: dict[str, list[tuple[int, float]]] = {"loss": [], "eval_loss": []}

    def on_update(update: TrainingUpdate) -> None:
        mlflow.log_metrics(dict(update.metrics), step=update.step)
        progress.show_training(update)
        for name, points in curves.items():
            if name in update.metrics:
                points.append((update.step, update.metrics[name]))

    with stage_run(run, stage, config):
        mlflow.log_params(getattr(config, stage).model_dump() | config.lora.model_dump())
        adapter = train(stage_folder(config, run, stage), on_update)
        if adapter.fallback is not None:
            mlflow.set_tag("fused_fallback", adapter.fallback)
            get_run_logger().warning("TRL's own trainer ran instead of the fused one: %s", adapter.fallback)
        mlflow.log_artifacts(str(adapter.path), "adapter")
        mlflow.log_figure(plot_training(stage, curves["loss"], curves["eval_loss"]), "loss.png")
    return adapter
