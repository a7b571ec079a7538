"""When memory does not suffice: telling it from other errors, freeing what was made, and asking in smaller batches."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from pii_finetune.errors import OutOfMemoryError

Item = TypeVar("Item")
Result = TypeVar("Result")
_LOGGER = logging.getLogger(__name__)


def attempt(work: Callable[[Item], Result], given: Item) -> tuple[Result | None, str]:
    """Return what came of the work, or None and in a few words why memory did not suffice; all it held is free then."""
    try:
        return work(given), ""
    except RuntimeError as error:
        told = lack_of_memory(error)
        if told is None:
            raise
    # Not before here is the traceback gone, whose frames hold the model and all that a step made.
    torch.compiler.reset()  # compiled layers hold on to theirs
    clear_device_cache(garbage_collection=True)
    return None, told


def lack_of_memory(error: BaseException | None) -> str | None:
    """Return what PyTorch says of lacking memory, or None; a CUDA graph cut off in its making wraps it in an error."""
    while error is not None and not isinstance(error, OutOfMemoryError):  # ours comes after all that could be tried
        told = str(error).partition("\n")[0]
        if isinstance(error, torch.OutOfMemoryError) or (
            isinstance(error, Exception) and (should_reduce_batch_size(error) or "ALLOC_FAILED" in told)
        ):
            return told.partition(" Including non-PyTorch memory")[0][:200].rstrip(". ") or "out of memory"
        error = error.__cause__ or error.__context__
    return None


def in_smaller_batches(
    items: Sequence[Item], batch_size: int, ask: Callable[[Sequence[Item]], Result]
) -> Iterator[tuple[Sequence[Item], Result]]:
    """Yield each batch of the items and what `ask` says of it; where memory does not suffice, batches are halved.

    Raises:
        OutOfMemoryError: it does not suffice for one item.
    """
    start = 0
    while start < len(items):
        batch = items[start : start + batch_size]
        answer, told = attempt(ask, batch)
        if answer is not None:
            yield batch, answer
            start += len(batch)
        elif len(batch) == 1:
            raise OutOfMemoryError(
                f"memory does not suffice to ask the model about a single row ({told}); free the device of other "
                "processes, or use a smaller base, or base.quantization=nf4 on a GPU"
            )
        else:
            batch_size = len(batch) // 2
            _LOGGER.warning(
                "memory does not suffice to ask the model about %d rows at once (%s): it is asked about %d",
                *(len(batch), told, batch_size),
            )
