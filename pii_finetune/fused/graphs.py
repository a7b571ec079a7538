"""A training step as CUDA graphs: recorded once for each shape of batch, then started as one.

A step at batch 2 is some thousand kernels of a few microseconds each; what takes the time is starting them one by one
from Python. A graph starts them all at once. It works on fixed memory, so a batch is copied to where the recorded one
lay, and whatever the step leaves behind it must add to or copy into tensors made outside.
"""

from collections.abc import Callable, Sequence

import torch

Step = Callable[[Sequence[torch.Tensor]], None]

_WARM_UPS = 2  # the first call compiles and chooses algorithms, the second shows that nothing is left to be made


class GraphedStep:
    """A step that reads the tensors it is given and changes `state` in place, replayed from a graph."""

    def __init__(self, step: Step, state: Sequence[torch.Tensor]) -> None:
        self._step, self._state = step, state
        self._graphs: dict[tuple[torch.Size, ...], tuple[torch.cuda.CUDAGraph, list[torch.Tensor]]] = {}
        self._pool = torch.cuda.graph_pool_handle()  # graphs run one after the other and can share their memory

    @property
    def num_graphs(self) -> int:
        """How many shapes have been recorded."""
        return len(self._graphs)

    def __call__(self, inputs: Sequence[torch.Tensor]) -> None:
        """Run the step on these inputs, of which any shapes new to it are recorded first."""
        shapes = tuple(each.shape for each in inputs)
        if shapes not in self._graphs:
            self._graphs[shapes] = self._record(inputs)
        graph, fixed = self._graphs[shapes]
        for place, value in zip(fixed, inputs, strict=True):
            place.copy_(value, non_blocking=True)
        graph.replay()

    def _record(self, inputs: Sequence[torch.Tensor]) -> tuple[torch.cuda.CUDAGraph, list[torch.Tensor]]:
        device = torch.cuda.current_device()
        fixed = [each.to(device, copy=True) for each in inputs]
        before = [each.clone() for each in self._state]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.random.fork_rng([device]), torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                self._step(fixed)
        torch.cuda.current_stream().wait_stream(side)
        for each, value in zip(self._state, before, strict=True):
            each.copy_(value)  # recording a step is not taking it
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            self._step(fixed)
        return graph, fixed
