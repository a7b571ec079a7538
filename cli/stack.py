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
from typing import IO, NamedTuple

import httpx
from rich.console import Console

from pii_finetune.paths import ROOT
from pii_finetune.tracking import DEFAULT_STORE

WORK_POOL = "gpu"
PARTS = ("prefect", "mlflow", "worker")
_START_SECONDS = 120
_STOP_SECONDS = 75  # more than the worker takes: its own end, the grace of its runs, a look for what reported nothing
_BIN = Path(sys.executable).parent


class Ports(NamedTuple):
    """Of the two servers, on the loopback address."""

    prefect: int
    mlflow: int


class Stack:
    """Prefect's server, MLflow's and a worker: started in order, stopped in reverse, each to be started again."""

    def __init__(self, store: Path, ports: Ports, output: Console, **settings: str) -> None:
        """Start nothing yet; `settings` are further environment variables, of all processes."""
        self._store, self._ports, self._output = store, ports, output
        self.prefect_api = f"http://127.0.0.1:{ports.prefect}/api"
        self.mlflow = f"http://127.0.0.1:{ports.mlflow}"
        backend = f"sqlite:///{store / 'mlflow.db'}"
        self.environment = {
            **os.environ,
            "PREFECT_API_URL": self.prefect_api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_CLI_PROMPT": "false",
            # In memory, the default, leases die with the server, and with them the healthy runs that held them.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            # After 2, 4, 8, ... seconds: a run outlives four minutes without this server.
            "PREFECT_CLIENT_MAX_RETRIES": os.environ.get("PREFECT_CLIENT_MAX_RETRIES", "7"),
            "PII_FINETUNE_ROOT": str(ROOT),
            "MLFLOW_TRACKING_URI": self.mlflow,
            "MLFLOW_BACKEND_STORE_URI": backend,
            # The worker promotes through the server, a person beside it straight in the store: one lock for both.
            "PII_FINETUNE_LOCK_URI": backend,
            "PATH": f"{_BIN}{os.pathsep}{os.environ.get('PATH', '')}",
            **settings,
        }
        self.parts: dict[str, subprocess.Popen[str]] = {}

    def start(self) -> None:
        """Start everything, with work pool, deployments and automations, and wait until it answers."""
        self._store.mkdir(parents=True, exist_ok=True)
        for name, port in (("PREFECT_PORT", self._ports.prefect), ("MLFLOW_PORT", self._ports.mlflow)):
            if _is_taken(port):
                raise RuntimeError(f"port {port} is in use; stop what uses it, or set {name} to a free port")
        self.start_part("prefect")
        self.start_part("mlflow")
        self.wait_until_up("prefect")
        self.wait_until_up("mlflow")
        self.call("prefect", "--no-prompt", "work-pool", "create", WORK_POOL, "--type", "process", "--overwrite")
        self.call("prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(ROOT / "prefect.yaml"))
        self.call("python", "-m", "cli.main", "automate")
        self.start_part("worker")

    def start_part(self, name: str) -> None:
        """Start prefect, mlflow or worker; a server answers only later."""
        process = subprocess.Popen(
            self._command(name),
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # ctrl-C reaches only us; we stop the others in order
        )
        self.parts[name] = process
        threading.Thread(target=_relay, args=(name, process.stdout, self._output), daemon=True).start()

    def wait_until_up(self, name: str) -> None:
        """Wait until a server answers."""
        url = f"{self.prefect_api if name == 'prefect' else self.mlflow}/health"
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(url):
            if self.parts[name].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start; its last lines are above")
            time.sleep(0.3)

    def call(self, program: str, *arguments: str) -> None:
        """Run a program of this environment to its end."""
        done = subprocess.run(
            [str(_BIN / program), *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program} {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")

    def watch(self) -> None:
        """Return when a process ends by itself."""
        while all(process.poll() is None for process in self.parts.values()):
            time.sleep(0.5)
        ended = next(name for name, process in self.parts.items() if process.poll() is not None)
        raise RuntimeError(f"{ended} ended by itself; its last lines are above")

    def stop(self) -> None:
        """Stop all processes, the worker first; what does not end in time is killed."""
        for name in reversed(PARTS):
            if (process := self.parts.get(name)) is None:
                continue
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT if name == "worker" else signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_STOP_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # children that outlived their parent
            self._output.print(f"[dim]{name} stopped[/]")

    def _command(self, name: str) -> list[str]:
        if name == "worker":  # it first closes what died; no other host can reach this server
            return [sys.executable, "-m", "cli.worker", "--pool", WORK_POOL, "--name", "local", "--only-worker"]
        at = ["--host", "127.0.0.1", "--port", str(getattr(self._ports, name))]
        if name == "prefect":
            return [str(_BIN / "prefect"), "server", "start", *at]
        artifacts = (self._store / "artifacts").as_uri()
        return [str(_BIN / "mlflow"), "server", "--default-artifact-root", artifacts, "--workers", "1", *at]


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def _relay(name: str, lines: IO[str] | None, output: Console) -> None:
    for line in lines or ():
        output.print(f"[dim]{name:>8}[/] ", end="")
        output.print(line.rstrip(), markup=False, soft_wrap=True)


def main() -> int:
    """Start, say where things are, wait, stop."""
    parser = argparse.ArgumentParser(prog="make up", description=__doc__)
    parser.add_argument("--store", type=Path, default=DEFAULT_STORE, help="folder of MLflow's runs (default: mlruns/)")
    ports = Ports(int(os.environ.get("PREFECT_PORT", "4200")), int(os.environ.get("MLFLOW_PORT", "5000")))
    console = Console(highlight=False)
    stack = Stack(parser.parse_args().store.resolve(), ports, console)
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
