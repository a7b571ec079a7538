"""`make up` in parts that can be killed and started again, with delays of seconds."""

import os
import signal
import socket
import sqlite3
import time
from contextlib import suppress

import psutil
from mlflow import MlflowClient
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelling, Crashed
from rich.console import Console

import cli.stack
from tasks.flow_processes import find_flow_processes

MAIN = "pii-finetune/main"
SHORTENED = {
    "PREFECT_WORKER_QUERY_SECONDS": "2",
    "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "3",
    "PII_FINETUNE_RESUME_DELAY_SECONDS": "1",
    "OMP_WAIT_POLICY": "passive",
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",  # as in the image
}
QUICK = {
    "sft.max_steps": 150,
    "sft.save_steps": 5,
    "sft.logging_steps": 5,
    "dpo.max_steps": 5,
    "dpo.logging_steps": 5,
    "data.unseen": None,
    "gate.minimum_f1": 0,
    "gate.minimum_recall": 0,
    "gate.minimum_format_validity": 0,
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Deployed:
    """Servers, deployments and a worker, and what can be seen of the runs."""

    def __init__(self, folder, workbook, monkeypatch):
        for name, value in (SHORTENED | {"PREFECT_HOME": str(folder / "prefect")}).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(cli.stack, "PREFECT_PORT", free_port())
        monkeypatch.setattr(cli.stack, "MLFLOW_PORT", free_port())
        self.log = folder / "log.txt"
        monkeypatch.setattr(cli.stack, "console", Console(file=self.log.open("w"), width=200))
        self._folder, self._workbook = folder, workbook
        self.stack = cli.stack.Stack(folder / "mlruns")
        self.client = SyncPrefectClient(self.stack.prefect_api)
        self.mlflow = MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")

    # The parts

    def start(self):
        self.stack.start()
        self.client.__enter__()

    def stop(self):
        self.stack.stop()

    def clean_up(self):
        self.stack.stop()
        for process in find_flow_processes().by_run.values():
            with suppress(psutil.Error):
                if process.environ().get("PREFECT_API_URL") == self.stack.prefect_api:
                    process.kill()

    def part(self, name):
        return dict(self.stack._processes)[name]

    def kill(self, name):
        """Kill a part, but not the flows that it started."""
        part = self.part(name)
        family = [part.pid]
        if name == "worker":
            family += [child.pid for child in psutil.Process(part.pid).children()]
        for pid in family:
            os.killpg(pid, signal.SIGKILL)
        part.wait(60)
        self.stack._processes.remove((name, part))

    def restart_prefect(self):
        """Start it again as the first part, which a stop ends last."""
        self.stack.start_prefect()
        self.stack._processes.insert(0, self.stack._processes.pop())
        self.stack.wait_for_prefect()

    def crash_after_silence_of(self, seconds):
        self.stack._environment["PII_FINETUNE_SILENT_SECONDS"] = str(seconds)
        self.stack._run("cli.main", "automate")

    def ensure_worker(self):
        if "worker" not in dict(self.stack._processes) or self.part("worker").poll() is not None:
            self.stack.start_worker()

    # Runs in Prefect

    def run(self, tags=(), **settings):
        """Start a run of the deployment; another seed makes other stages."""
        overrides = QUICK | {"output_dir": str(self._folder / "outputs")} | settings
        parameters = {"profile": "embedded", "data": str(self._workbook), "overrides": overrides}
        deployment = self.client.read_deployment_by_name(MAIN)
        return self.client.create_flow_run_from_deployment(deployment.id, parameters=parameters, tags=list(tags)).id

    def cancel(self, run_id):
        """As the UI's button does it."""
        self.client.set_flow_run_state(run_id, Cancelling())

    def call_crashed(self, run_id):
        self.client.set_flow_run_state(run_id, Crashed(message="No heartbeat."))

    def flow_runs(self, deployment=MAIN):
        wanted = {"deployment_id": {"any_": [self.client.read_deployment_by_name(deployment).id]}}
        return self.client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate(wanted), sort=FlowRunSort.EXPECTED_START_TIME_ASC
        )

    def wait_for_state(self, run_id, *names, seconds=400):
        """Wait until the run's state has one of the names; any other end is a failure."""

        def state():
            run = self.client.read_flow_run(run_id)
            assert run.state.name in names or not run.state.is_final(), f"{run.state!r}\n{self.tail()}"
            return run if run.state.name in names else None

        return self.wait(state, f"run {run_id} is none of {names}", seconds)

    def wait_for_next(self, run_id, seconds=200):
        """Wait for the run that resumes this one."""
        key = f"resume:{run_id}"
        return self.wait(
            lambda: next((run for run in self.flow_runs() if run.idempotency_key == key), None),
            f"nothing resumes {run_id}",
            seconds,
        )

    def slots(self):
        """Return how many slots of the one trainer are taken."""
        return self.client.read_deployment_by_name(MAIN).global_concurrency_limit.active_slots

    def process(self, run_id):
        return find_flow_processes().by_run.get(str(run_id))

    # Runs in MLflow

    def runs(self, flow_run_id, stage=None):
        """Return the parent run that a flow run went on with last, or its child runs of a stage."""
        experiment = self.mlflow.get_experiment_by_name("pii-finetune")
        if experiment is None:
            return []
        found = self.mlflow.search_runs([experiment.experiment_id], f"tags.prefect_flow_run_id = '{flow_run_id}'")
        if stage is None or not found:
            return found
        return self.mlflow.search_runs(
            [experiment.experiment_id],
            f"tags.mlflow.parentRunId = '{found[0].info.run_id}' and tags.stage = '{stage}'",
        )

    def steps(self, run):
        return [point.step for point in self.mlflow.get_metric_history(run.info.run_id, "loss")]

    def wait_for_step(self, flow_run_id, step, stage="sft", seconds=400):
        """Wait until a stage of this flow run has logged a loss at this step, or later."""

        def reached():
            assert not self.client.read_flow_run(flow_run_id).state.is_final(), self.tail()
            return next((r for r in self.runs(flow_run_id, stage) if max(self.steps(r), default=0) >= step), None)

        return self.wait(reached, f"{stage} did not reach step {step}", seconds)

    def production(self):
        versions = self.mlflow.search_model_versions("name='pii-dpo'")
        return [version for version in versions if version.current_stage == "Production"]

    # Seen when no server is there

    def state_on_disk(self, run_id):
        with sqlite3.connect(f"file:{self._folder / 'prefect' / 'prefect.db'}?mode=ro", uri=True) as database:
            [[name]] = database.execute("select state_name from flow_run where id = ?", [str(run_id)])
        return name

    def wait(self, condition, otherwise, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := condition():
                return found
            time.sleep(0.2)
        raise AssertionError(f"{otherwise} after {seconds} s\n{self.tail()}")

    def tail(self):
        return self.log.read_text()[-6000:]
