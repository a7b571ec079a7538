"""Supervised fine-tuning: the model learns to answer, loss on the answer only."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from transformers import PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from pii_finetune.base_model import load_base, load_tokenizer
from pii_finetune.checkpoints import WholeCheckpoints
from pii_finetune.config import RunConfig
from pii_finetune.distributed.launch import train_in_processes
from pii_finetune.fused.fallback import why_not_fused
from pii_finetune.fused.rows import tokenize
from pii_finetune.fused.sft import FusedSFTTrainer
from pii_finetune.prompt import render_prompt
from pii_finetune.records import Record
from pii_finetune.smaller_steps import train_within_memory
from pii_finetune.splits import Splits
from pii_finetune.training import Adapter, OnUpdate, UpdateCallback, finish, on_one_gpu, trainer_arguments
from pii_finetune.validation_f1 import Judge, judging


class WholeSFTTrainer(WholeCheckpoints, SFTTrainer):
    """TRL's, with checkpoints that are whole or not there."""


def train_sft(
    splits: Splits, config: RunConfig, folder: Path, on_update: OnUpdate, judge: Judge | None = None
) -> Adapter:
    """Fine-tune the base with LoRA (QLoRA when the base is nf4) on the training side, watching the validation side.

    A judge is told F1 on the validation side four times, and may end the training; not so with several processes.

    Raises:
        OutOfMemoryError: memory does not suffice, nor does it for half the micro-batch.
        TrainingDivergedError: the loss or a gradient stopped being finite.
        TrainingPrunedError: the judge ended it.
    """

    def train(within: RunConfig) -> Adapter:
        if within.runtime.num_processes:
            return train_in_processes("sft", splits, within, folder, on_update)
        trainer, fallback = sft_trainer(splits, within, folder, on_update, judge)
        return finish(trainer, within, folder, fallback)

    return train_within_memory("sft", config, train)


def sft_trainer(
    splits: Splits, config: RunConfig, folder: Path, on_update: OnUpdate, judge: Judge | None = None
) -> tuple[SFTTrainer, str | None]:
    """Return the trainer the configuration asks for, or TRL's and in one sentence why it cannot be the fused one."""
    sharded = config.runtime.sharding != "none"
    tokenizer, model = load_tokenizer(config.base), load_base(config.base, sharded)
    fallback = why_not_fused(model, config.sft, config) if config.trainer == "fused" else None
    fused = config.trainer == "fused" and fallback is None
    shared: dict[str, Any] = {
        "model": model,
        "args": on_one_gpu(SFTConfig(**trainer_arguments(config.sft, config, folder, fused))),
        "processing_class": tokenizer,
        "peft_config": LoraConfig(task_type="CAUSAL_LM", bias="none", **config.lora.model_dump()),
        "callbacks": [
            UpdateCallback(on_update),
            *judging(model, tokenizer, splits.validation, config.evaluation.batch_size, judge),
        ],
    }
    if fused:
        one = sft_rows(splits.train[:1], tokenizer)  # TRL's constructor wants to see some; use_rows brings all
        trainer = FusedSFTTrainer(train_dataset=one, eval_dataset=one, **shared)
        train, validation = (tokenize(side, tokenizer, answers) for side in (splits.train, splits.validation))
        trainer.use_rows(train, validation, config.fused)
    else:
        trainer = WholeSFTTrainer(
            train_dataset=sft_rows(splits.train, tokenizer),
            eval_dataset=sft_rows(splits.validation, tokenizer),
            **shared,
        )
    return trainer, fallback


def answers(record: Record) -> list[str]:
    """Return what a row is taught: the right answer."""
    return [record.answer]


def sft_rows(records: Sequence[Record], tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Return TRL's prompt-completion rows; TRL ends each completion with the tokenizer's <|im_end|>."""
    return Dataset.from_list(
        [{"prompt": render_prompt(tokenizer, r.label, r.language), "completion": r.answer} for r in records]
    )
