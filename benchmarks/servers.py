"""What `make up` starts, on ports and stores of its own, to be killed in parts by the soak and the tests of faults."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import psutil
from rich.console import Console

from cli.stack import Ports, Stack
from tasks.flow_processes import find_flow_processes

_MARK = "PII_FINETUNE_SERVERS"  # in the environment of all that was started here, and of all that these start
_QUICK = {
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "3",
    "PII_FINETUNE_RESUME_DELAY_SECONDS": "1",
    "OMP_WAIT_POLICY": "passive",
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",  # as in the image
}
T = TypeVar("T")


class Servers:
    """A stack below a folder, its log, and its processes whoever their parent is now."""

    def __init__(self, folder: Path, **settings: str) -> None:
        """Choose ports; `settings` are further environment variables, of all processes."""
        self.log_path = folder / "log.txt"
        self.store = folder / "mlruns"
        quick = _QUICK | {"PREFECT_HOME": str(folder / "prefect"), _MARK: str(folder)}
        output = Console(file=self.log_path.open("w"), width=200)
        self.stack = Stack(self.store, Ports(_free_port(), _free_port()), output, **quick | settings)
        self._mark = str(folder)

    def log(self) -> str:
        """Return what all of them said."""
        return self.log_path.read_text(errors="replace")

    def kill(self, name: str) -> None:
        """Kill a part with SIGKILL; of the worker, Prefect's beside ours, and not the flow processes it started."""
        process = self.stack.parts.pop(name)
        family = [process.pid]
        if name == "worker":
            family += [child.pid for child in psutil.Process(process.pid).children()]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        process.wait(60)

    def restart(self, name: str) -> None:
        """Start a part that was killed, and wait until it answers if it is a server."""
        self.stack.start_part(name)
        if name != "worker":
            self.stack.wait_until_up(name)

    def stop(self) -> list[str]:
        """Stop all as ctrl-C does, kill what outlived that, and return what it was."""
        self.stack.stop()
        orphans = [process for process, environment in _environments() if environment.get(_MARK) == self._mark]
        named = [" ".join(_command_of(process))[:200] for process in orphans]
        for process in orphans:
            with contextlib.suppress(psutil.Error):
                process.kill()
        return named


@contextlib.contextmanager
def running_servers(folder: Path, **settings: str) -> Iterator[Servers]:
    """Run all, and leave none behind."""
    servers = Servers(folder, **settings)
    try:
        servers.stack.start()
        yield servers
    finally:
        servers.stop()


def flow_process(flow_run_id: object) -> psutil.Process | None:
    """Return the process that runs this flow run, if one does."""
    return find_flow_processes().by_run.get(str(flow_run_id))


def wait_for(condition: Callable[[], T | None], seconds: float, what: str) -> T:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.5)


def _environments() -> Iterator[tuple[psutil.Process, dict[str, str]]]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE:
                yield process, process.environ()


def _command_of(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return ["gone"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
