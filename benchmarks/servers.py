"""Prefect's server, MLflow's and a worker, each a process that can be killed and started again: what a team runs.

Used by the soak and by tests of faults; `make up` is cli/stack.py, which ends when one of them does.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

from tasks.flow_processes import find_flow_processes

ROOT = Path(__file__).resolve().parents[1]
_BIN = Path(sys.executable).parent
_START_SECONDS = 240
T = TypeVar("T")
MARK = "PII_FINETUNE_SERVERS"  # in the environment of all that was started here, and of all that these start


class Servers:
    """The three processes, on ports and stores of their own below a folder."""

    def __init__(self, folder: Path, **settings: str) -> None:
        """Choose ports; `settings` are further environment variables, of all processes."""
        self._folder = folder
        self._ports = {"prefect": _free_port(), "mlflow": _free_port()}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.prefect_api = f"http://127.0.0.1:{self._ports['prefect']}/api"
        self.mlflow = f"http://127.0.0.1:{self._ports['mlflow']}"
        self.store = f"sqlite:///{folder / 'mlflow.db'}"
        usual = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_"))}
        self.environment = {
            **usual,
            MARK: str(folder),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": self.prefect_api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_CLI_PROMPT": "false",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "5",
            "PREFECT_WORKER_QUERY_SECONDS": "3",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
            "MLFLOW_TRACKING_URI": self.mlflow,
            "MLFLOW_BACKEND_STORE_URI": self.store,
            # What `make up` and the compose stack say too: one lock for all who promote.
            "PII_FINETUNE_LOCK_URI": self.store,
            "PII_FINETUNE_ROOT": str(ROOT),
            "PII_FINETUNE_RESUME_DELAY_SECONDS": "1",
            "PATH": f"{_BIN}{os.pathsep}{os.environ.get('PATH', '')}",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "OMP_WAIT_POLICY": "passive",
            **settings,
        }

    def start_all(self) -> None:
        """Start servers, make work pool, deployments and automations, start the worker."""
        for name in ("prefect", "mlflow"):
            self.start(name)
        for name in ("prefect", "mlflow"):
            self.wait_until_up(name)
        self.call(str(_BIN / "prefect"), "--no-prompt", "work-pool", "create", "gpu", "--type", "process")
        self.call(str(_BIN / "prefect"), "--no-prompt", "deploy", "--all", "--prefect-file", str(ROOT / "prefect.yaml"))
        self.call(sys.executable, "-m", "cli.main", "automate")
        self.start("worker")

    def start(self, name: str) -> None:
        """Start prefect, mlflow or worker; it may be up only later."""
        log = (self._folder / f"{name}.log").open("ab")
        self._processes[name] = subprocess.Popen(
            self._command(name),
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def wait_until_up(self, name: str) -> None:
        """Wait until a server answers."""
        url = f"{self.prefect_api}/health" if name == "prefect" else f"{self.mlflow}/health"
        wait_for(lambda: _answers(url), _START_SECONDS, f"{name} to answer; its log: {self.log(name)[-2000:]}")

    def kill(self, name: str) -> None:
        """Kill one with SIGKILL; of the worker, Prefect's beside ours, and not the flow processes it started."""
        process = self._processes[name]
        if name == "worker":
            family = [process.pid, *(child.pid for child in _children(process.pid))]
        else:
            family = [process.pid, *(child.pid for child in _children(process.pid, recursive=True))]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(60)

    def stop_all(self) -> list[str]:
        """Stop the worker as a terminal does, kill what is left, and return what had outlived the worker."""
        worker = self._processes.get("worker")
        if worker is not None and worker.poll() is None:
            worker.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(90)
        servers = {self._processes[name].pid for name in ("prefect", "mlflow") if name in self._processes}
        servers |= {child.pid for pid in servers for child in _children(pid, recursive=True)}
        orphans = [process for process in self.family() if process.pid not in servers]
        named = [" ".join(_command_of(process))[:200] for process in orphans]
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                process.kill()
        for process in self._processes.values():
            process.wait(60)
        return named

    def family(self) -> list[psutil.Process]:
        """Return all living processes that come of these, whoever is their parent now."""
        return [process for process, environment in _environments() if environment.get(MARK) == str(self._folder)]

    def flow_process(self, flow_run_id: object) -> psutil.Process | None:
        """Return the process that runs this flow run, if one does."""
        return find_flow_processes().by_run.get(str(flow_run_id))

    def call(self, *command: str) -> str:
        """Run a program to its end and return what it said; an error if it fails."""
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def log(self, name: str) -> str:
        """Return what a process said."""
        path = self._folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _command(self, name: str) -> list[str]:
        at = ["--host", "127.0.0.1", "--port", str(self._ports.get(name, 0))]
        if name == "prefect":
            return [str(_BIN / "prefect"), "server", "start", *at]
        if name == "mlflow":
            artifacts = (self._folder / "artifacts").as_uri()
            backend = self.environment["MLFLOW_BACKEND_STORE_URI"]
            stores = ["--backend-store-uri", backend, "--default-artifact-root", artifacts, "--workers", "1"]
            return [str(_BIN / "mlflow"), "server", *stores, *at]
        return [sys.executable, "-m", "cli.worker", "--pool", "gpu", "--name", f"worker-{time.time():.0f}"]


@contextlib.contextmanager
def running_servers(folder: Path, **settings: str) -> Iterator[Servers]:
    """Run all, and leave none behind."""
    servers = Servers(folder, **settings)
    try:
        servers.start_all()
        yield servers
    finally:
        servers.stop_all()


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


def _children(pid: int, **how: Any) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).children(**how)
    return []


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
