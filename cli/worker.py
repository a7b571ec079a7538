"""A Prefect worker that cleans up after a death, and before its own: `python -m cli.worker --pool gpu`.

When it starts, runs whose process is gone end as what happened, and free their slot. With `--only-worker`, which says
that no other host runs flows of this server, these are all that have no process here.

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

from tasks.flow_processes import runs_a_flow

# Docker gives 10 s by default; the compose stack's grace period must be longer than this.
GRACE_SECONDS = float(os.environ.get("PII_FINETUNE_GRACE_SECONDS", "45"))
_WORKER_SECONDS = 10
_ONLY_WORKER = "--only-worker"  # ours; all other arguments are Prefect's


class _StopError(BaseException):
    """A signal to stop came."""


def run_worker(arguments: list[str]) -> int:
    """Close what died, then run `prefect worker start` until it ends or a signal comes."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _raise_stop)
    worker = None
    try:
        _reconcile(_ONLY_WORKER in arguments)
        command = [str(Path(sys.executable).parent / "prefect"), "worker", "start"]
        command += [each for each in arguments if each != _ONLY_WORKER]
        # Without heartbeats, which Prefect leaves off, nobody sees a run fall silent.
        environment = {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", **os.environ}
        # In a session of its own: a terminal's ctrl-C, sent to the group, must not reach the worker before its runs.
        worker = subprocess.Popen(command, env=environment, start_new_session=True)
        return worker.wait()
    except _StopError:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if worker is not None:
            stop(worker, GRACE_SECONDS)
        return 0


def _reconcile(only_worker: bool) -> None:
    """Close dead runs in a process of its own, so that what it imports does not stay in memory."""
    command = [sys.executable, "-m", "cli.main", "reconcile", *([_ONLY_WORKER] if only_worker else [])]
    if subprocess.run(command, check=False).returncode:
        print("worker: runs that died were not looked for, see above; the worker starts all the same", flush=True)


def stop(worker: "subprocess.Popen[bytes]", grace: float) -> None:
    """Stop the worker's flow processes, then the worker; what is left after the grace period is killed."""
    told: dict[int, psutil.Process] = {}
    deadline = time.monotonic() + grace
    while (running := _tell_flows(worker.pid, told)) and time.monotonic() < deadline:
        psutil.wait_procs(running, timeout=0.5)  # a slot that is free again may start the next run meanwhile
    for process in told.values():
        _send(process, signal.SIGKILL)
    time.sleep(0.5)  # the worker sees its runs end, and reports what they did not
    descendants = psutil.Process(worker.pid).children(recursive=True) if worker.poll() is None else []
    worker.send_signal(signal.SIGINT)
    try:
        worker.wait(_WORKER_SECONDS)
    except subprocess.TimeoutExpired:
        worker.kill()
    for process in psutil.wait_procs(descendants, timeout=0.1)[1]:
        _send(process, signal.SIGKILL)


def _tell_flows(worker: int, told: dict[int, psutil.Process]) -> list[psutil.Process]:
    """Send SIGTERM to each flow process, once, for a second would cost the checkpoint; return those that live."""
    try:
        descendants = psutil.Process(worker).children(recursive=True)
    except psutil.NoSuchProcess:
        descendants = []
    for process in descendants:
        if process.pid not in told and runs_a_flow(process):
            told[process.pid] = process
            _send(process, signal.SIGTERM)
    return [each for each in told.values() if each.is_running() and runs_a_flow(each)]


def _send(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.Error:
        return


def _raise_stop(_number: int, _frame: FrameType | None) -> None:
    raise _StopError


if __name__ == "__main__":
    sys.exit(run_worker(sys.argv[1:]))
