"""What SFT and DPO share: arguments for TRL's trainers, metrics as they come, and the adapter that is left."""

import logging
import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trl.trainer.utils
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pii_finetune.base_model import portable_name
from pii_finetune.checkpoints import newest_whole
from pii_finetune.config import RunConfig, TrainingSection
from pii_finetune.disk import told_if_full
from pii_finetune.distributed.nodes import everywhere
from pii_finetune.distributed.ranks import rank
from pii_finetune.distributed.sharded import adapter_weights, sharding_arguments
from pii_finetune.errors import TrainingDivergedError, TrainingStoppedError
from pii_finetune.stopping import StopCallback, stopping_on_sigterm

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Adapter:
    """A trained LoRA adapter on disk (adapter_model.safetensors + adapter_config.json) and how its training went."""

    path: Path
    num_steps: int
    train_loss: float
    seconds: float
    fallback: str | None = None  # why TRL's trainer ran although the fused one was asked for
    # "loss" and "eval_loss" by step, from the first step on, also of what was trained before an interruption
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    micro_batch_after_oom: int | None = None  # half of what was asked for, because memory did not suffice for that


@dataclass(frozen=True)
class TrainingUpdate:
    """Metrics of one step (loss, learning_rate, grad_norm, eval_loss, ...) and how far the training is."""

    step: int
    num_steps: int
    metrics: Mapping[str, float]


OnUpdate = Callable[[TrainingUpdate], None]
Stopping = Callable[[StopCallback], AbstractContextManager[None]]


def trainer_arguments(section: TrainingSection, config: RunConfig, folder: Path, fused: bool) -> dict[str, Any]:
    """Return the keyword arguments for SFTConfig or DPOConfig: the section by name, and what follows from the run."""
    return {
        **section.model_dump(),
        # Recomputing activations changes no number, and the fused pass is made to do without.
        "gradient_checkpointing": section.gradient_checkpointing and not fused,
        "output_dir": str(folder / "checkpoints"),
        "seed": config.seed,
        "use_cpu": config.base.device == "cpu",
        "bf16": config.base.dtype == "bfloat16",
        "eval_strategy": "steps",
        "logging_strategy": "steps",
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # True would log a NaN loss as 0.0
        "max_length": None,  # truncation would cut the answer off; labels are bounded by validation instead
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": config.base.device == "cuda",
        **sharding_arguments(config.runtime),
    }


def on_one_gpu(args: Any) -> Any:
    """Return TRL's configuration, told that a process has one GPU: with several, Trainer would take them all for it."""
    if args.n_gpu > 1:  # reading it is what makes Trainer look
        args._n_gpu = 1  # noqa: SLF001 # no setting reaches it
    return args


class UpdateCallback(TrainerCallback):
    """Hands every log entry on, and stops a training that has diverged."""

    def __init__(self, on_update: OnUpdate) -> None:
        self._on_update = on_update

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Report the entry; raise if a loss or gradient norm in it is not finite."""
        metrics = {name: float(value) for name, value in (logs or {}).items() if isinstance(value, int | float)}
        self._on_update(TrainingUpdate(state.global_step, state.max_steps, metrics))
        for name in ("loss", "grad_norm", "eval_loss", "train_loss"):
            if not math.isfinite(metrics.get(name, 0.0)):
                raise TrainingDivergedError(
                    f"{name} is {metrics[name]} at step {state.global_step}, "
                    f"learning rate {metrics.get('learning_rate', args.learning_rate):g}; "
                    "the adapter is not kept. Use a lower learning_rate or max_grad_norm"
                )


@contextmanager
def projecting_answers_only() -> Iterator[None]:
    """Let TRL project only the positions that bear loss on the vocabulary, on a CPU as it does on a GPU.

    TRL 1.16 skips the prompt's positions where it has Triton and projects all of them elsewhere, for compilers that
    want fixed shapes. On a CPU that is nearly half of an SFT step of the embedded profile, for values masked out after.
    Losses and gradients are the same; benchmarks/answer_projection.py shows both.
    """
    asked = trl.trainer.utils._use_triton  # noqa: SLF001 # the one place where TRL decides it; no setting reaches it
    trl.trainer.utils._use_triton = lambda device: device.type == "cpu" or asked(device)  # noqa: SLF001
    try:
        yield
    finally:
        trl.trainer.utils._use_triton = asked  # noqa: SLF001


def finish(
    trainer: Any, config: RunConfig, folder: Path, fallback: str | None, stopping: Stopping = stopping_on_sigterm
) -> Adapter:
    """Train, from the newest whole checkpoint if there is one, then save the adapter alone.

    No optimizer, no reference copy, no pickled arguments. Of several processes, the first one saves.

    Args:
        trainer: TRL's, or the fused one.
        config: the run's.
        folder: for checkpoints and the adapter.
        fallback: why the trainer is not the one that was asked for, if it is not.
        stopping: by what the training is asked to stop, from within.

    Raises:
        TrainingStoppedError: it was; a checkpoint was written where there was time for one.
    """
    trainer.remove_callback(PrinterCallback)  # the updates say it already
    stop = StopCallback()
    trainer.add_callback(stop)
    checkpoint, skipped = newest_whole(folder / "checkpoints")
    checkpoint = everywhere(checkpoint, folder / "checkpoints")
    for line in skipped:
        _LOGGER.warning("%s", line)
    if checkpoint is not None:
        _LOGGER.info("going on from %s", checkpoint.name)
    with projecting_answers_only(), stopping(stop):
        outcome = trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    if trainer.state.global_step < trainer.state.max_steps:
        raise TrainingStoppedError(
            f"stopped by SIGTERM after step {trainer.state.global_step} of {trainer.state.max_steps}; "
            "a rerun of the same data and settings goes on from there"
        )
    path = folder / "adapter"
    weights = adapter_weights(trainer.model)
    if rank() == 0:
        _save(trainer.model, weights, path, config)
    history = trainer.state.log_history
    curves = {key: [(each["step"], each[key]) for each in history if key in each] for key in ("loss", "eval_loss")}
    seconds = outcome.metrics["train_runtime"]
    return Adapter(path, outcome.global_step, outcome.training_loss, seconds, fallback, curves)


def _save(model: Any, weights: dict[str, Any] | None, path: Path, config: RunConfig) -> None:
    shutil.rmtree(path, ignore_errors=True)
    for settings in model.peft_config.values():
        settings.base_model_name_or_path = portable_name(config.base)
    with told_if_full("the adapter", path, "a rerun goes on from the last checkpoint"):
        model.save_pretrained(path, selected_adapters=["default"], state_dict=weights)
    (path / "README.md").unlink(missing_ok=True)  # PEFT's empty model-card form
