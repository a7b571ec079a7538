"""The process between a run and its training: torch's elastic agent, which starts the others and starts them again.

    python -m pii_finetune.distributed.launcher JOB PARENT

It is a process of its own so that a run keeps its signals, and can end all of this by ending one process.
"""

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous.api import RendezvousTimeoutError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from pii_finetune.config import RuntimeConfig
from pii_finetune.distributed.die_with_parent import die_with_parent
from pii_finetune.distributed.job import Job, read_job
from pii_finetune.distributed.messages import tell
from pii_finetune.distributed.nodes import interface_of, meeting_point, own_address, refused, serve_job

_POLL_SECONDS = 1.0
_JOIN_SECONDS = 600  # torch's own


class _ToRun(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        tell("log", [logging.DEBUG, record.getMessage()])


def launch(path: Path) -> int:
    """Train in processes until all have ended well, or have died once too often; return the exit code."""
    job = read_job(path)
    rendezvous = meeting_point(job.config.runtime)
    logging.getLogger("torch.distributed.elastic").addHandler(_ToRun())
    worker = ("-u", "-m", "pii_finetune.distributed.worker", str(path), str(os.getpid()))
    with _offered(job, rendezvous):
        try:
            elastic_launch(_settings(job, rendezvous, job.config.runtime), sys.executable)(*worker)
        except ChildFailedError as error:
            tell("failed", {number: failure.exitcode for number, failure in error.failures.items()})
            return 1
        except RendezvousTimeoutError:
            told = (
                f"fewer than runtime.num_nodes = {job.config.runtime.num_nodes} machines came to {rendezvous} within "
            )
            told += f"{_JOIN_SECONDS} s; start `pii-finetune join {rendezvous}` on each other one, then the run again"
            tell("error", ["LostProcessError", told])
            return 1
    return 0


@contextmanager
def _offered(job: Job, rendezvous: str | None) -> Iterator[None]:
    """Let other machines have the job, and tell the run of those that do not take it."""
    if rendezvous is None or not job.is_first_node:
        yield
        return
    store, ended = serve_job(job, rendezvous), threading.Event()

    def listen() -> None:
        while not ended.wait(_POLL_SECONDS):
            if (told := refused(store)) is not None:
                tell("refused", told)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield
    finally:
        ended.set()
        listener.join()


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
    meeting = {"is_host": job.is_first_node, "join_timeout": _JOIN_SECONDS}
    return replace(here, rdzv_endpoint=rendezvous, rdzv_configs=meeting, local_addr=address)


if __name__ == "__main__":
    die_with_parent(int(sys.argv[2]))
    sys.exit(launch(Path(sys.argv[1])))
