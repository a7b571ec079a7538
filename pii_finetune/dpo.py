"""Direct preference optimisation: from the SFT adapter, the right answer is preferred over the other."""

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedTokenizerBase
from trl import DPOConfig, DPOTrainer

from pii_finetune.base_model import load_base, load_tokenizer
from pii_finetune.config import RunConfig
from pii_finetune.prompt import render_prompt
from pii_finetune.records import Record
from pii_finetune.splits import Splits
from pii_finetune.training import Adapter, OnUpdate, UpdateCallback, finish, trainer_arguments


def train_dpo(splits: Splits, sft: Adapter, config: RunConfig, folder: Path, on_update: OnUpdate) -> Adapter:
    """Train the SFT adapter further; the reference is a frozen copy of it, which TRL makes and names `ref`.

    Raises:
        TrainingDivergedError: the loss or a gradient stopped being finite.
    """
    tokenizer = load_tokenizer(config.base)
    trainer = DPOTrainer(
        model=PeftModel.from_pretrained(load_base(config.base), sft.path, is_trainable=True),
        args=DPOConfig(**trainer_arguments(config.dpo, config, folder)),
        train_dataset=dpo_rows(splits.train, tokenizer),
        eval_dataset=dpo_rows(splits.validation, tokenizer),
        processing_class=tokenizer,
        callbacks=[UpdateCallback(on_update)],
    )
    return finish(trainer, config, folder)


def dpo_rows(records: Sequence[Record], tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Return TRL's preference rows: chosen is the right answer, rejected the other one."""
    return Dataset.from_list(
        [
            {
                "prompt": render_prompt(tokenizer, r.label, r.language),
                "chosen": r.answer,
                "rejected": "no" if r.sensitive else "yes",
            }
            for r in records
        ]
    )
