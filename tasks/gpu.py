"""One training on a GPU."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from prefect.logging import get_run_logger

from pii_finetune.base_model import gpus_of
from pii_finetune.config import RunConfig
from pii_finetune.output_lock import gpu_lock


@contextmanager
def gpu_to_itself(config: RunConfig) -> Iterator[None]:
    """Hold the GPUs that the settings ask for, if they do; who must wait for one is told so in the log."""
    with ExitStack() as held:
        for gpu in sorted(gpus_of(config.base, config.runtime.num_here)):  # in one order, or two would wait for ever
            held.enter_context(gpu_lock(gpu, get_run_logger().info))
        yield
