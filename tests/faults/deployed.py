"""`make up` in parts that can be killed and started again, with delays of seconds."""

import sqlite3
import time

from mlflow import MlflowClient
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelling, Crashed

from benchmarks.servers import Servers, flow_process
from benchmarks.short_run import SHORT_RUN

MAIN = "pii-finetune/main"
QUICK = SHORT_RUN | {"sft.max_steps": 150, "sft.save_steps": 5, "dpo.max_steps": 5}


class Deployed:
    """Servers, deployments and a worker, and what can be seen of the runs."""

    def __init__(self, folder, workbook):
        self._folder, self._workbook = folder, workbook
        self.servers = Servers(folder)
        self.client = SyncPrefectClient(self.servers.stack.prefect_api)
        self.mlflow = MlflowClient(f"sqlite:///{self.servers.store / 'mlflow.db'}")

    # The parts

    def start(self):
        self.servers.stack.start()
        self.client.__enter__()

    def log(self):
        return self.servers.log()

    def part(self, name):
        return self.servers.stack.parts[name]

    def crash_after_silence_of(self, seconds):
        self.servers.stack.environment["PII_FINETUNE_SILENT_SECONDS"] = str(seconds)
        self.servers.stack.call("python", "-m", "cli.main", "automate")

    def ensure_worker(self):
        worker = self.servers.stack.parts.get("worker")
        if worker is None or worker.poll() is not None:
            self.servers.restart("worker")

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
        return flow_process(run_id)

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
        return self.log()[-6000:]
