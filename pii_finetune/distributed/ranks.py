"""What the processes of one training tell each other. In a training of one process nobody is asked."""

import functools
from typing import Any

import torch
import torch.distributed as dist


def rank() -> int:
    """Return this process's number among those of the training; 0 is the one that saves and reports."""
    return dist.get_rank() if dist.is_initialized() else 0


def num_ranks() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def add_over_ranks(*tensors: torch.Tensor) -> None:
    """Replace each tensor by its sum over all processes, in place; all must call this in the same order."""
    if num_ranks() > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)


def any_rank(is_so: bool) -> bool:
    """Return whether it is so in any process; all must call this. A GPU is not waited for."""
    if num_ranks() == 1:
        return is_so
    told = torch.tensor(int(is_so))
    dist.all_reduce(told, dist.ReduceOp.MAX, group=_of_cpus())
    return bool(told)


def wait_for_ranks() -> None:
    """Return when every process has come to this point."""
    any_rank(is_so=False)


@functools.cache
def _of_cpus() -> Any:
    return dist.new_group(backend="gloo")
