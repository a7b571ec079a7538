import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

sys.path.insert(0, str(Path(__file__).parent))  # pytest imports test files without their folder
from deployed import Deployed

from benchmarks.short_run import SHORT_RUN

QUICK = SHORT_RUN | {"sft.max_steps": 150, "sft.save_steps": 5, "dpo.max_steps": 60, "dpo.save_steps": 5}


class Runs:
    """`pii-finetune run` in processes of its own, on one workbook, store and output folder."""

    def __init__(self, workbook, folder):
        self._folder = folder
        settings = QUICK | {"output_dir": str(folder / "outputs")}
        assignments = [part for name, value in settings.items() for part in ("--set", f"{name}={json.dumps(value)}")]
        self._command = [sys.executable, "-m", "cli.main", "run", "--data", str(workbook), *assignments]
        self.environment = {
            **{key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"},
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
            "PREFECT_HOME": str(folder / "prefect"),
            "OMP_WAIT_POLICY": "passive",
        }
        self.client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
        self.started = []

    def start(self, *more):
        """Start a run in a session of its own."""
        log = (self._folder / f"log-{len(self.started)}.txt").open("w")
        process = subprocess.Popen(
            [*self._command, *more], env=self.environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        self.started.append(process)
        return process

    def finish(self, *more):
        """Run to the end and return what was said."""
        process = self.start(*more)
        code = process.wait(400)
        said = self.said()
        assert code == 0, said[-4000:]
        return said

    def said(self):
        return (self._folder / f"log-{len(self.started) - 1}.txt").read_text()

    def runs(self, stage=None):
        """Return the parent runs, or the child runs of a stage, the oldest first."""
        experiment = self.client.get_experiment_by_name("pii-finetune")
        if experiment is None:
            return []
        found = self.client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
        return [run for run in found if run.data.tags.get("stage") == stage]

    def wait_for_step(self, stage, step):
        """Wait until a stage that is running has logged a loss at this step."""
        process, deadline = self.started[-1], time.monotonic() + 300
        while time.monotonic() < deadline:
            assert process.poll() is None, self.said()[-4000:]
            for run in self.runs(stage):
                if run.info.status == "RUNNING" and max(self.steps(run), default=0) >= step:
                    return run
            time.sleep(0.1)
        raise AssertionError(f"{stage} did not reach step {step}: {self.said()[-2000:]}")

    def steps(self, run, metric="loss"):
        return [point.step for point in self.client.get_metric_history(run.info.run_id, metric)]

    def kill_all(self, process):
        """Kill a run with all it started, as the death of a host does."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(60)


@pytest.fixture
def runs(small_workbook, tmp_path):
    made = Runs(small_workbook, tmp_path)
    yield made
    for process in made.started:
        if process.poll() is None:
            made.kill_all(process)


@pytest.fixture(scope="module")
def deployed(small_workbook, tmp_path_factory):
    """Servers, a worker and the deployments, as `make up` starts them."""
    made = Deployed(tmp_path_factory.mktemp("deployed"), small_workbook)
    try:
        made.start()
        yield made
    finally:
        made.servers.stop()
