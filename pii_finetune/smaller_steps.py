"""A training for which memory does not suffice, once more in smaller pieces.

transformers' `auto_find_batch_size` and accelerate's `find_executable_batch_size` shrink the batch and with it what a
step learns from. Here a step stays what it was: half the micro-batch, twice the accumulation, the same rows.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from pii_finetune.config import RunConfig, TrainingSection
from pii_finetune.errors import OutOfMemoryError
from pii_finetune.memory import attempt
from pii_finetune.training import Adapter

_LOGGER = logging.getLogger(__name__)


def train_within_memory(
    stage: Literal["sft", "dpo"], config: RunConfig, train: Callable[[RunConfig], Adapter]
) -> Adapter:
    """Train; if memory does not suffice, once more with half the micro-batch and the same effective batch.

    The second attempt goes on from the newest whole checkpoint. It is valid under the other micro-batch: Trainer counts
    optimizer steps in it and skips as many rows as they took, and the sampler draws the same rows in the same order.
    Sums are over the same rows in other pieces, so that they round otherwise, and dropout draws other masks.

    Raises:
        OutOfMemoryError: the micro-batch cannot be halved, or half of it did not fit either.
    """
    adapter, told = attempt(train, config)
    if adapter is not None:
        return adapter
    section: TrainingSection = getattr(config, stage)
    before = section.per_device_train_batch_size
    if before % 2:
        raise OutOfMemoryError(
            f"{stage}: memory does not suffice for a micro-batch of {before} ({told}), which cannot be halved evenly. "
            f"{_remedies(stage, section)}"
        )
    smaller = {
        "per_device_train_batch_size": before // 2,
        "gradient_accumulation_steps": section.gradient_accumulation_steps * 2,
        "per_device_eval_batch_size": max(1, section.per_device_eval_batch_size // 2),
    }
    accumulated = smaller["gradient_accumulation_steps"]
    _LOGGER.warning(
        "%s: memory does not suffice for a micro-batch of %d (%s): once more, with %d and %d accumulated, %d rows a "
        "step as before. To start so next time: %s.per_device_train_batch_size=%d, %s.gradient_accumulation_steps=%d",
        *(stage, before, told, before // 2, accumulated, accumulated * (before // 2)),
        *(stage, before // 2, stage, accumulated),
    )
    adapter, told = attempt(train, config.model_copy(update={stage: section.model_copy(update=smaller)}))
    if adapter is None:
        raise OutOfMemoryError(
            f"{stage}: memory does not suffice for a micro-batch of {before}, nor for one of {before // 2} ({told}). "
            f"{_remedies(stage, section)}"
        )
    return replace(adapter, micro_batch_after_oom=before // 2)


def _remedies(stage: str, section: TrainingSection) -> str:
    smaller = [f"{stage}.per_device_train_batch_size with a larger {stage}.gradient_accumulation_steps"]
    if section.per_device_eval_batch_size > 1:
        smaller.append(f"{stage}.per_device_eval_batch_size")
    others = [] if section.gradient_checkpointing else [f"{stage}.gradient_checkpointing=true (with trainer=trl)"]
    return (
        f"Free the device of other processes, set a smaller {' or '.join(smaller)}, or "
        f"{', '.join([*others, 'a smaller base'])}; checkpoints are kept, and a rerun goes on from the newest"
    )
