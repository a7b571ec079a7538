"""One trainer on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.logging import get_run_logger

from pii_finetune.base_model import gpu_of
from pii_finetune.config import RunConfig
from pii_finetune.output_lock import gpu_lock


@contextmanager
def gpu_to_itself(config: RunConfig) -> Iterator[None]:
    """Hold the GPU that the settings name, if they name one; who must wait for it is told so in the log."""
    with gpu_lock(gpu_of(config.base), get_run_logger().info):
        yield
