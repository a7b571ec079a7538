"""The process between a run and its training: torch's elastic agent, which starts the others and starts them again.

    python -m pii_finetune.distributed.launcher JOB PARENT

It is a process of its own so that a run keeps its signals, and can end all of this by ending one process.
"""

import logging
import os
import sys
from dataclasses import replace
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from pii_finetune.config import RuntimeConfig
from pii_finetune.distributed.die_with_parent import die_with_parent
from pii_finetune.distributed.job import Job, read_job
from pii_finetune.distributed.messages import tell
from pii_finetune.distributed.nodes import interface_of, meeting_point, own_address, serve_job


class _ToRun(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tell("log", [logging.DEBUG, record.getMessage()])


def launch(path: Path) -> int:
    """Train in processes until all have ended well, or have died once too often; return the exit code."""
    job = read_job(path)
    rendezvous = meeting_point(job.config.runtime)
    store = serve_job(job, rendezvous) if rendezvous is not None and job.is_first_node else None
    logging.getLogger("torch.distributed.elastic").addHandler(_ToRun())
    worker = ("-u", "-m", "pii_finetune.distributed.worker", str(path), str(os.getpid()))
    try:
        elastic_launch(_settings(job, rendezvous, job.config.runtime), sys.executable)(*worker)
    except ChildFailedError as error:
        tell("failed", {number: failure.exitcode for number, failure in error.failures.items()})
        return 1
    finally:
        del store  # other machines can have the job until here
    return 0


def _settings(job: Job, rendezvous: str | None, runtime: RuntimeConfig) -> LaunchConfig:
    here = LaunchConfig(
        min_nodes=runtime.num_nodes,
        max_nodes=runtime.num_nodes,
        nproc_per_node=runtime.num_here,
        run_id=job.identity,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=runtime.max_restarts,
        monitor_interval=0.1,
        start_method="spawn",
    )
    # Gloo, and NCCL too, would take the interface of the host's name, if that has an address at all.
    address = "127.0.0.1" if rendezvous is None else own_address(rendezvous)
    if (interface := interface_of(address)) is not None:
        for library in ("GLOO",) if rendezvous is None else ("GLOO", "NCCL"):
            os.environ.setdefault(f"{library}_SOCKET_IFNAME", interface)
    if rendezvous is None:
        return replace(here, local_addr=address)
    return replace(here, rdzv_endpoint=rendezvous, rdzv_configs={"is_host": job.is_first_node}, local_addr=address)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[2]))
    sys.exit(launch(Path(sys.argv[1])))
