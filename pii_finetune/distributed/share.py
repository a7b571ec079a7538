"""How one batch is shared between processes, so that a step learns from the same rows as in a single one."""

from pii_finetune.config import TrainingSection
from pii_finetune.errors import BadConfigError


def share_of_batch(stage: str, section: TrainingSection, num_processes: int) -> TrainingSection:
    """Return the settings for each of the processes: a part of the micro-batch, or of those that are accumulated.

    Raises:
        BadConfigError: neither can be shared evenly.
    """
    for name in ("per_device_train_batch_size", "gradient_accumulation_steps"):
        size = getattr(section, name)
        if size % num_processes == 0:
            return section.model_copy(update={name: size // num_processes})
    batch, accumulated = section.per_device_train_batch_size, section.gradient_accumulation_steps
    raise BadConfigError(
        f"runtime.num_processes = {num_processes}: a step of {stage} is {batch} rows, {accumulated} times over, and "
        f"neither can be shared evenly by {num_processes}; set {stage}.per_device_train_batch_size to a multiple of it "
        "(a larger batch is another recipe: see docs/several-gpus.md), or take fewer processes"
    )
