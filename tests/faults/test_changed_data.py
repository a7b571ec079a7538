import contextlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.schedules import IntervalSchedule

from benchmarks.servers import running_servers, wait_for
from benchmarks.short_run import SHORT_RUN
from make_data.workbook import write_workbook

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(2400)]

LONG = 1200  # seconds that something may take beside others on the same cores
QUICK = SHORT_RUN | {"sft.max_steps": 400, "dpo.max_steps": 10, "tracking.log_system_metrics": False}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    with running_servers(tmp_path_factory.mktemp("servers")) as servers:
        yield servers


class Watched:
    """A workbook, the deployments that are to watch and train it, and what came of that."""

    def __init__(self, servers, folder, rows):
        self.path = folder / "labels.xlsx"
        self.write(rows)
        self._servers = servers
        self.prefect = SyncPrefectClient(servers.stack.prefect_api)
        self.mlflow = MlflowClient(servers.stack.mlflow)
        self._parameters = {
            "profile": "embedded",
            "data": str(self.path),
            "overrides": QUICK | {"output_dir": str(folder / "outputs")},
        }
        self._schedules = []
        for name, more in (("pii-finetune/main", {}), ("pii-watch/main", {"stable_seconds": 1})):
            deployment = self.prefect.read_deployment_by_name(name)
            self.prefect.update_deployment(deployment.id, DeploymentUpdate(parameters=self._parameters | more))

    def write(self, rows):
        write_workbook(rows, self.path.with_name("new.xlsx"))
        self.path.with_name("new.xlsx").replace(self.path)

    def announce(self):
        """Say by HTTP, as any system can, that a dataset may have changed."""
        event = {
            "id": str(uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
            "event": "pii.dataset.announced",
            "resource": {"prefect.resource.id": "pii.dataset.labels"},
        }
        httpx.post(f"{self._servers.stack.prefect_api}/events", json=[event], timeout=60).raise_for_status()

    def look_by_hand(self):
        given = {"profile": "embedded", "data": str(self.path), "overrides": self._parameters["overrides"]}
        code = f"from flows.watch import watch; watch(**{given!r}, stable_seconds=1)"
        environment = self._servers.stack.environment
        return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.DEVNULL)

    def schedule_once(self, name, seconds):
        """Have a schedule of the deployment fire once, soon; Prefect looks for new schedules every 5 s."""
        at = datetime.now(UTC) + timedelta(seconds=seconds)
        schedule = IntervalSchedule(interval=timedelta(days=1), anchor_date=at)
        deployment = self.prefect.read_deployment_by_name(name)
        (made,) = self.prefect.create_deployment_schedules(deployment.id, [(schedule, True)])
        self._schedules.append((deployment.id, made.id))

    def scheduled_run(self, name, other):
        """Return the run that a schedule of the deployment makes; a scheduler that is late misses the moment."""
        for _ in range(10):
            self.schedule_once(name, 12)
            with contextlib.suppress(TimeoutError):
                made = wait_for(lambda: [r for r in self.runs("pii-finetune") if r.id != other.id], 30, "the schedule")
                return made[0]
        raise TimeoutError("no schedule made a run")

    def runs(self, flow):
        """Return the flow runs on this workbook that are due by now, the oldest first."""
        runs = [run for run in self.prefect.read_flow_runs() if run.parameters.get("data") == str(self.path)]
        flows = {each.id: each.name for each in self.prefect.read_flows()}
        due = datetime.now(UTC) + timedelta(minutes=5)
        found = [run for run in runs if flows[run.flow_id] == flow and run.expected_start_time < due]
        return sorted(found, key=lambda run: run.created)

    def started_by_looks(self):
        return [run for run in self.runs("pii-finetune") if "pii-watch" in run.tags]

    def parent(self, flow_run):
        return next(iter(self._tracked(f"tags.prefect_flow_run_id = '{flow_run.id}'")), None)

    def child(self, flow_run, stage):
        parent = self.parent(flow_run)
        if parent is None:
            return None
        wanted = f"tags.mlflow.parentRunId = '{parent.info.run_id}' and tags.stage = '{stage}'"
        return next(iter(self._tracked(wanted)), None)

    def trains(self, flow_run):
        """Return whether SFT of this run is at it."""
        sft = self.child(flow_run, "sft")
        return sft is not None and sft.info.status == "RUNNING" and "loss" in sft.data.metrics

    def state(self, flow_run):
        return self.prefect.read_flow_run(flow_run.id).state

    def end(self, flow_run):
        wait_for(lambda: self.state(flow_run).is_final(), LONG, f"{flow_run.name} to end")
        state = self.state(flow_run)
        assert state.is_completed(), f"{state}\n{self._servers.log()[-4000:]}"

    def looks_ended(self, at_least):
        looks = self.runs("pii-watch")
        return len(looks) >= at_least and all(look.state.is_final() for look in looks) and looks

    def close(self):
        for deployment, schedule in self._schedules:
            self.prefect.delete_deployment_schedule(deployment, schedule)

    def _tracked(self, wanted):
        experiment = self.mlflow.get_experiment_by_name("pii-finetune")
        return [] if experiment is None else self.mlflow.search_runs([experiment.experiment_id], wanted)


@pytest.fixture
def watched(servers, tmp_path, small_rows):
    made = Watched(servers, tmp_path, small_rows)
    yield made
    made.close()


def test_ten_announcements_a_schedule_and_two_people_at_once_train_once_and_a_second_training_repeats_nothing(watched):
    # Fault 14.
    by_hand = [watched.look_by_hand() for _ in range(2)]
    watched.schedule_once("pii-watch/main", 12)
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda _: watched.announce(), range(5)))
    for _ in range(5):
        watched.announce()
    [first] = wait_for(watched.started_by_looks, LONG, "a training to be started")

    # A schedule of the training itself fires while it goes: it waits, and then finds all that was made.
    wait_for(lambda: watched.trains(first), LONG, "SFT to train")
    second = watched.scheduled_run("pii-finetune/main", first)
    wait_for(
        lambda: watched.state(second).name == "AwaitingConcurrencySlot" or watched.state(first).is_final(),
        LONG,
        "the second to wait for the first",
    )
    assert watched.prefect.read_flow_run(second.id).start_time is None
    watched.end(first)
    watched.end(second)
    assert watched.child(first, "sft").data.tags.get("kept_from") is None
    for stage in ("sft", "dpo"):
        assert watched.child(second, stage).data.tags["kept_from"] == watched.child(first, stage).info.run_id

    looks = wait_for(lambda: watched.looks_ended(13), LONG, "all looks to end")
    assert all(look.state.is_completed() for look in looks), [look.state for look in looks]
    assert [process.wait(LONG) for process in by_hand] == [0, 0]
    assert watched.started_by_looks()[1:] == []


def test_a_run_whose_workbook_is_replaced_meanwhile_says_so_and_the_next_look_trains_the_new_rows_once(
    watched, small_rows
):
    # Fault 15. Rows of its own: what the test before trained on these servers would be kept, and nothing be trained.
    rows = small_rows[1:]
    watched.write(rows)
    watched.announce()
    [first] = wait_for(watched.started_by_looks, LONG, "a training to be started")
    wait_for(lambda: watched.trains(first), LONG, "SFT to train")
    watched.write(rows[:-1])
    watched.end(first)
    parent = watched.parent(first)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["data_is_newest"] == "false"
    report = watched.mlflow.download_artifacts(parent.info.run_id, "report.html")
    assert "The data changed while this run went." in Path(report).read_text(encoding="utf-8")
    assert parent.data.metrics["num_rows_dataset"] == len(rows)

    for _ in range(3):
        watched.announce()
    wait_for(lambda: watched.looks_ended(4), LONG, "all looks to end")
    [_, second] = watched.started_by_looks()
    watched.end(second)
    newest = watched.parent(second)
    assert newest.data.tags["data_is_newest"] == "true"
    assert newest.data.metrics["num_rows_dataset"] == len(rows) - 1
