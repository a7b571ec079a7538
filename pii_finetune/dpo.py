"""Direct preference optimisation: from the SFT adapter, the right answer is preferred over the other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer

from pii_finetune.base_model import load_base, load_tokenizer
from pii_finetune.checkpoints import WholeCheckpoints
from pii_finetune.config import RunConfig
from pii_finetune.distributed.launch import train_in_processes
from pii_finetune.fused.dpo import FusedDPOTrainer
from pii_finetune.fused.fallback import why_not_fused
from pii_finetune.fused.rows import tokenize
from pii_finetune.prompt import render_prompt
from pii_finetune.records import Record
from pii_finetune.smaller_steps import train_within_memory
from pii_finetune.splits import Splits
from pii_finetune.training import Adapter, OnUpdate, UpdateCallback, finish, on_one_gpu, trainer_arguments
from pii_finetune.validation_f1 import Judge, judging


class WholeDPOTrainer(WholeCheckpoints, DPOTrainer):
    """TRL's, with checkpoints that are whole or not there."""


def train_dpo(
    splits: Splits, sft: Adapter, config: RunConfig, folder: Path, on_update: OnUpdate, judge: Judge | None = None
) -> Adapter:
    """Train the SFT adapter further; the reference is a frozen copy of it, which TRL makes and names `ref`.

    A judge is told F1 on the validation side four times, and may end the training; not so with several processes.

    Raises:
        OutOfMemoryError: memory does not suffice, nor does it for half the micro-batch.
        TrainingDivergedError: the loss or a gradient stopped being finite.
        TrainingPrunedError: the judge ended it.
    """

    def train(within: RunConfig) -> Adapter:
        if within.runtime.num_processes:
            return train_in_processes("dpo", splits, within, folder, on_update, sft.path)
        trainer, fallback = dpo_trainer(splits, sft.path, within, folder, on_update, judge)
        return finish(trainer, within, folder, fallback)

    return train_within_memory("dpo", config, train)


def dpo_trainer(
    splits: Splits, start: Path, config: RunConfig, folder: Path, on_update: OnUpdate, judge: Judge | None = None
) -> tuple[DPOTrainer, str | None]:
    """Return the trainer the configuration asks for, or TRL's and in one sentence why it cannot be the fused one."""
    tokenizer = load_tokenizer(config.base)
    sharded = config.runtime.sharding != "none"
    model = PeftModel.from_pretrained(load_base(config.base, sharded), start, is_trainable=True)
    fallback = why_not_fused(model, config.dpo, config) if config.trainer == "fused" else None
    fused = config.trainer == "fused" and fallback is None
    shared: dict[str, Any] = {
        "model": model,
        "args": on_one_gpu(DPOConfig(**trainer_arguments(config.dpo, config, folder, fused))),
        "processing_class": tokenizer,
        "callbacks": [
            UpdateCallback(on_update),
            *judging(model, tokenizer, splits.validation, config.evaluation.batch_size, judge),
        ],
    }
    if fused:
        one = dpo_rows(splits.train[:1], tokenizer)  # TRL's constructor wants to see some; use_rows brings all
        trainer = FusedDPOTrainer(train_dataset=one, eval_dataset=one, **shared)
        train, validation = (tokenize(side, tokenizer, answers) for side in (splits.train, splits.validation))
        trainer.use_rows(train, validation, config.fused)
    else:
        trainer = WholeDPOTrainer(
            train_dataset=dpo_rows(splits.train, tokenizer),
            eval_dataset=dpo_rows(splits.validation, tokenizer),
            **shared,
        )
    return trainer, fallback


def answers(record: Record) -> list[str]:
    """Return what a row compares: the right answer, then the other one."""
    return [record.answer, "no" if record.sensitive else "yes"]


def dpo_rows(records: Sequence[Record], tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Return TRL's preference rows: chosen is the right answer, rejected the other one."""
    return Dataset.from_list(
        [
            {"prompt": render_prompt(tokenizer, r.label, r.language), "chosen": chosen, "rejected": rejected}
            for r in records
            for chosen, rejected in [answers(r)]
        ]
    )
