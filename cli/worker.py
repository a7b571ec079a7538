"""A Prefect worker that, told to stop, first stops its runs: `python -m cli.worker --pool gpu`.

Prefect's own worker waits on SIGTERM for its runs to end by themselves, which takes hours; what sent the signal kills
everything long before. Here the runs get the SIGTERM, write a checkpoint, end as Cancelled, and the worker follows.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import psutil

# Docker gives 10 s by default; the compose stack's grace period must be longer than this.
GRACE_SECONDS = float(os.environ.get("PII_FINETUNE_GRACE_SECONDS", "45"))
_WORKER_SECONDS = 10


class _StopError(BaseException):
    """A signal to stop came."""


def run_worker(arguments: list[str]) -> int:
    """Run `prefect worker start` until it ends or a signal comes."""
    command = [str(Path(sys.executable).parent / "prefect"), "worker", "start", *arguments]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _raise_stop)
    # In a session of its own: a terminal's ctrl-C, sent to the group, must not reach the worker before its runs.
    worker = subprocess.Popen(command, start_new_session=True)
    try:
        return worker.wait()
    except _StopError:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        stop(worker, GRACE_SECONDS)
        return 0


def stop(worker: "subprocess.Popen[bytes]", grace: float) -> None:
    """Stop the worker's flow processes, then the worker; what is left after the grace period is killed."""
    descendants = psutil.Process(worker.pid).children(recursive=True)
    # A process group of its own is what tells a flow process from a helper of one; its own children are its business.
    flows = [each for each in descendants if _runs_a_flow(each)]
    for process in flows:
        _send(process, signal.SIGTERM)
    _, left = psutil.wait_procs(flows, timeout=grace)
    for process in left:
        _send(process, signal.SIGKILL)
    time.sleep(0.5)  # the worker sees its runs end, and reports what they did not
    worker.send_signal(signal.SIGINT)
    try:
        worker.wait(_WORKER_SECONDS)
    except subprocess.TimeoutExpired:
        worker.kill()
    for process in psutil.wait_procs(descendants, timeout=0.1)[1]:
        _send(process, signal.SIGKILL)


def _runs_a_flow(process: psutil.Process) -> bool:
    try:
        return "prefect.engine" in process.cmdline() or "prefect.flow_engine" in process.cmdline()
    except psutil.Error:
        return False


def _send(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.Error:
        return


def _raise_stop(_number: int, _frame: FrameType | None) -> None:
    raise _StopError


if __name__ == "__main__":
    sys.exit(run_worker(sys.argv[1:]))
