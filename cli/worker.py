"""A Prefect worker that cleans up after a death, and before its own: `python -m cli.worker --pool gpu`.

When it starts, runs whose process is gone end as what happened, and free their slot. With `--only-worker`, which says
that no other host runs flows of this server, these are all that have no process here.

Told to stop, Prefect's own worker kills its runs, or what sent the signal does. Here they get SIGTERM first, write a
checkpoint and end as Cancelled.
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
        environment = {
            # Without heartbeats, which Prefect leaves off, nobody sees a run fall silent.
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "PREFECT_LOGGING_HANDLERS_CONSOLE_CLASS": "cli.enduring_console.EnduringConsoleHandler",
            **os.environ,
        }
        # In a session of its own: a terminal's ctrl-C, sent to the group, must not reach the worker before its runs.
        worker = subprocess.Popen(command, env=environment, start_new_session=True)
        return worker.wait()
    except _StopError:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if worker is not None and stop(worker, GRACE_SECONDS):
            _reconcile(_ONLY_WORKER in arguments)  # one that was killed, or stopped before it began, reported nothing
        return 0


def _reconcile(only_worker: bool) -> None:
    """Close dead runs in a process of its own, so that what it imports does not stay in memory."""
    command = [sys.executable, "-m", "cli.main", "reconcile", *([_ONLY_WORKER] if only_worker else [])]
    if subprocess.run(command, check=False).returncode:
        print("worker: runs that died could not be looked for; see above", flush=True)


def stop(worker: "subprocess.Popen[bytes]", grace: float) -> bool:
    """Stop the flows that the worker started, killing what is left after the grace period, then the worker.

    Returns:
        Whether there was any flow.
    """
    # Suspended, it starts no run when a slot is free again, and kills none, as its own end would. Flows report theirs.
    worker.send_signal(signal.SIGSTOP)
    flows = _flows_of(worker.pid)
    for process in flows:
        _send(process, signal.SIGTERM)
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline and any(map(runs_a_flow, flows)):
        time.sleep(0.1)
    for process in flows:
        _send(process, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGCONT):
        worker.send_signal(number)
    try:
        worker.wait(_WORKER_SECONDS)
    except subprocess.TimeoutExpired:
        worker.kill()
    return bool(flows)


def _flows_of(worker: int) -> set[psutil.Process]:
    try:
        return {each for each in psutil.Process(worker).children(recursive=True) if runs_a_flow(each)}
    except psutil.NoSuchProcess:
        return set()


def _send(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.Error:
        return


def _raise_stop(_number: int, _frame: FrameType | None) -> None:
    raise _StopError


if __name__ == "__main__":
    sys.exit(run_worker(sys.argv[1:]))
