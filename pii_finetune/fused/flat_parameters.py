"""All trainable weights in one tensor, so that clipping and the optimizer each touch one thing, not hundreds.

An elementwise optimizer does not care where a weight lies. bitsandbytes' 8-bit AdamW shares one scale between 256
neighbours (Dettmers et al., 2022, section 2.1); each weight matrix therefore begins at a multiple of 256 and the gaps
are zero, so that every block holds what it held before. One step is then one kernel, not one for each matrix.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

BLOCK = 256  # elements to which bitsandbytes' blockwise optimizers give one scale
MIN_8BIT_SIZE = 4096  # smaller tensors are kept in 32 bits by bitsandbytes; flattened, they would not be


class FlatParameters:
    """Trainable parameters turned into views of one vector, `weights`, whose `.grad` collects their gradients."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        self.leaves = list(parameters)
        sizes = [-(-leaf.numel() // BLOCK) * BLOCK for leaf in self.leaves]
        first = self.leaves[0]
        flat = torch.zeros(sum(sizes), dtype=first.dtype, device=first.device)
        for slot, leaf in zip(flat.split(sizes), self.leaves, strict=True):
            own = slot[: leaf.numel()].view_as(leaf)
            own.copy_(leaf.data)
            leaf.data = own
        self.weights = torch.nn.Parameter(flat)
        self.weights.grad = torch.zeros_like(flat)
        self._gradients = [
            slot[: leaf.numel()].view_as(leaf)
            for slot, leaf in zip(self.gradient.split(sizes), self.leaves, strict=True)
        ]

    @property
    def gradient(self) -> torch.Tensor:
        """The sum of gradients added since the last `forget_gradients`."""
        assert self.weights.grad is not None  # noqa: S101 # made above, and zeroed in place
        return self.weights.grad

    def add_gradients(self, gradients: Sequence[torch.Tensor]) -> None:
        """Add one gradient for each of `leaves`."""
        torch._foreach_add_(self._gradients, list(gradients))  # the public optimizers are built on it

    def forget_gradients(self) -> None:
        """Set all gradients to zero, in place: a CUDA graph adds to this very memory."""
        self.gradient.zero_()

    def clip_gradients(self, max_norm: float) -> torch.Tensor:
        """Scale gradients down to a norm of at most `max_norm`, as torch's clip_grad_norm_ does; return what it was."""
        norm = torch.linalg.vector_norm(self.gradient, dtype=torch.float32)
        self.gradient.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))
        return norm


def without_waiting(kind: Any) -> Any:
    """Return the optimizer class, and if it is of bitsandbytes, one whose `step` does not wait for the GPU after it.

    bitsandbytes 0.50 synchronises after each parameter, and again for paged ones, whose state a CPU might touch.
    Nothing here does between steps; the kernels run in the order in which they are started all the same.
    """
    if not kind.__module__.startswith("bitsandbytes"):
        return kind

    class WithoutWaiting(kind):
        def step(self, closure: Callable[[], float] | None = None) -> Any:
            if not self.initialized or closure is not None or any(not self.state[p] for p in self._parameters()):
                return super().step(closure)  # the first one makes the state
            for at, group in enumerate(self.param_groups):
                for index, parameter in enumerate(group["params"]):
                    self.update_step(group, parameter, at, index)
            return None

        def _parameters(self) -> Iterable[torch.nn.Parameter]:
            return (parameter for group in self.param_groups for parameter in group["params"])

    return WithoutWaiting
