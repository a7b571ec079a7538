"""The process between a run and its training: torch's elastic agent, which starts the others and starts them again.

    python -m pii_finetune.distributed.launcher JOB PARENT

It is a process of its own so that a run keeps its signals, and can end all of this by ending one process.
"""

import logging
import os
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from pii_finetune.distributed.die_with_parent import die_with_parent
from pii_finetune.distributed.job import read_job
from pii_finetune.distributed.messages import tell
from pii_finetune.distributed.nodes import interface_of, own_address, serve_job


class _ToRun(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tell("log", [logging.DEBUG, record.getMessage()])


def launch(job: Path) -> int:
    """Train in processes until all have ended well, or have died once too often; return the exit code."""
    given = read_job(job)
    runtime = given.config.runtime
    rendezvous = runtime.rendezvous if runtime.num_nodes > 1 else None
    address = None if rendezvous is None else own_address(rendezvous)
    if address is not None and (interface := interface_of(address)) is not None:
        for library in ("GLOO", "NCCL"):  # both would take the interface of the host's name
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", interface)
    store = serve_job(given) if given.is_first_node else None
    logging.getLogger("torch.distributed.elastic").addHandler(_ToRun())
    config = LaunchConfig(
        min_nodes=runtime.num_nodes,
        max_nodes=runtime.num_nodes,
        nproc_per_node=runtime.num_here,
        run_id=given.identity,
        rdzv_backend="c10d",
        rdzv_endpoint=rendezvous or "localhost:0",
        rdzv_configs={} if rendezvous is None else {"is_host": given.is_first_node},
        local_addr=address,
        max_restarts=runtime.max_restarts,
        monitor_interval=0.1,
        start_method="spawn",
    )
    try:
        elastic_launch(config, sys.executable)(
            "-u", "-m", "pii_finetune.distributed.worker", str(job), str(os.getpid())
        )
    except ChildFailedError as error:
        tell("failed", [[failure.global_rank, failure.exitcode] for failure in error.failures.values()])
        return 1
    finally:
        del store  # others can have the job until here
    return 0


if __name__ == "__main__":
    die_with_parent(int(sys.argv[2]))
    sys.exit(launch(Path(sys.argv[1])))
