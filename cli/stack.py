"""`make up`: Prefect and MLflow servers, work pool, deployments and a worker in one terminal; ctrl-C stops all."""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

import httpx
from rich.console import Console

from pii_finetune.paths import ROOT
from pii_finetune.tracking import DEFAULT_STORE

PREFECT_PORT = int(os.environ.get("PREFECT_PORT", "4200"))
MLFLOW_PORT = int(os.environ.get("MLFLOW_PORT", "5000"))
WORK_POOL = "gpu"
_START_SECONDS = 120
_STOP_SECONDS = 75  # more than the worker takes: its own end, the grace of its runs, a look for what reported nothing
_BIN = Path(sys.executable).parent

console = Console(highlight=False)


class Stack:
    """Processes started in order and stopped in reverse."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self.prefect_api = f"http://127.0.0.1:{PREFECT_PORT}/api"
        self.mlflow = f"http://127.0.0.1:{MLFLOW_PORT}"
        self._environment = os.environ | {
            "PREFECT_API_URL": self.prefect_api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_CLI_PROMPT": "false",
            # In memory, the default, leases die with the server, and with them the healthy runs that held them.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            # After 2, 4, 8, ... seconds: a run outlives four minutes without this server.
            "PREFECT_CLIENT_MAX_RETRIES": os.environ.get("PREFECT_CLIENT_MAX_RETRIES", "7"),
            "PII_FINETUNE_ROOT": str(ROOT),
            "MLFLOW_TRACKING_URI": self.mlflow,
            # The worker promotes through the server, a person beside it straight in the store: one lock for both.
            "PII_FINETUNE_LOCK_URI": f"sqlite:///{store / 'mlflow.db'}",
            "PATH": f"{_BIN}{os.pathsep}{os.environ.get('PATH', '')}",
        }
        self._processes: list[tuple[str, subprocess.Popen[str]]] = []

    def start(self) -> None:
        """Start everything and wait until it answers."""
        self._store.mkdir(parents=True, exist_ok=True)
        for name, port in (("PREFECT_PORT", PREFECT_PORT), ("MLFLOW_PORT", MLFLOW_PORT)):
            if _is_taken(port):
                raise RuntimeError(f"port {port} is in use; stop what uses it, or set {name} to a free port")
        self.start_prefect()
        self._spawn("mlflow", self._mlflow_command())
        self.wait_for_prefect()
        self._wait_for("mlflow", f"{self.mlflow}/health")
        self._call("work-pool", "create", WORK_POOL, "--type", "process", "--overwrite")
        self._call("deploy", "--all", "--prefect-file", str(ROOT / "prefect.yaml"))
        self._run("cli.main", "automate")
        self.start_worker()

    def start_prefect(self) -> None:
        """Start Prefect's server."""
        self._spawn(
            "prefect", [str(_BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(PREFECT_PORT)]
        )

    def wait_for_prefect(self) -> None:
        """Wait until Prefect's server answers."""
        self._wait_for("prefect", f"{self.prefect_api}/health")

    def start_worker(self) -> None:
        """Start a worker, which first closes what died; no other host can reach this server."""
        options = ["--pool", WORK_POOL, "--name", "local", "--only-worker"]
        self._spawn("worker", [sys.executable, "-m", "cli.worker", *options])

    def watch(self) -> None:
        """Return when a process ends by itself."""
        while all(process.poll() is None for _, process in self._processes):
            time.sleep(0.5)
        ended = next(name for name, process in self._processes if process.poll() is not None)
        raise RuntimeError(f"{ended} ended by itself; its last lines are above")

    def stop(self) -> None:
        """Stop all processes, the last started first; what does not end in time is killed."""
        for name, process in reversed(self._processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT if name == "worker" else signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_STOP_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # children that outlived their parent
            console.print(f"[dim]{name} stopped[/]")

    def _mlflow_command(self) -> list[str]:
        artifacts = (self._store / "artifacts").as_uri()
        store = f"sqlite:///{self._store / 'mlflow.db'}"
        options = [
            "--backend-store-uri",
            store,
            "--default-artifact-root",
            artifacts,
            "--host",
            "127.0.0.1",
            "--workers",
            "1",
        ]
        return [str(_BIN / "mlflow"), "server", *options, "--port", str(MLFLOW_PORT)]

    def _spawn(self, name: str, command: list[str]) -> None:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # ctrl-C reaches only us; we stop the others in order
        )
        self._processes.append((name, process))
        threading.Thread(target=_relay, args=(name, process.stdout), daemon=True).start()

    def _wait_for(self, name: str, url: str) -> None:
        process = dict(self._processes)[name]
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start; its last lines are above")
            time.sleep(0.3)

    def _call(self, *arguments: str) -> None:
        self._complete([str(_BIN / "prefect"), "--no-prompt", *arguments])

    def _run(self, module: str, *arguments: str) -> None:
        self._complete([sys.executable, "-m", module, *arguments])

    def _complete(self, command: list[str]) -> None:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def _relay(name: str, lines: IO[str] | None) -> None:
    for line in lines or ():
        console.print(f"[dim]{name:>8}[/] ", end="")
        console.print(line.rstrip(), markup=False, soft_wrap=True)


def main() -> int:
    """Start, say where things are, wait, stop."""
    parser = argparse.ArgumentParser(prog="make up", description=__doc__)
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE, help="folder of MLflow's runs (default: mlruns/)")
    stack = Stack(parser.parse_args().store.resolve())
    prefect = f"{_BIN.relative_to(ROOT) if _BIN.is_relative_to(ROOT) else _BIN}/prefect"
    for stopping in (signal.SIGINT, signal.SIGTERM):  # a shell that starts us in the background has SIGINT ignored
        signal.signal(stopping, signal.default_int_handler)
    try:
        stack.start()
        console.print(
            f"\n[bold green]up[/]  Prefect {stack.prefect_api.removesuffix('/api')}   MLflow {stack.mlflow}\n"
            f"in another terminal:  export PREFECT_API_URL={stack.prefect_api}\n"
            f"                      {prefect} deployment run pii-finetune/main --watch\n"
            "ctrl-C stops all of it\n"
        )
        stack.watch()
    except KeyboardInterrupt:
        return 0
    except RuntimeError as error:
        console.print(f"[bold red]make up:[/] {error}", soft_wrap=True)
        return 1
    finally:
        stack.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
