"""A sweep whose trials are runs on a work pool: how many at once, what is stopped, and what deaths cost."""

import pytest
from prefect.client.schemas.filters import FlowRunFilter

from benchmarks.short_run import SHORT_RUN

pytestmark = [pytest.mark.slow, pytest.mark.faults, pytest.mark.timeout(1800)]

SWEEP, TRIAL, MAIN = "pii-sweep/main", "pii-trial/main", "pii-finetune/main"


@pytest.fixture(autouse=True)
def _worker(deployed):
    deployed.ensure_worker()


class Sweep:
    """A run of pii-sweep/main, and what can be seen of it."""

    def __init__(self, deployed, workbook, folder, rates, steps, **parameters):
        self._deployed = deployed
        settings = SHORT_RUN | {"sft.max_steps": steps, "sft.save_steps": 5, "dpo.max_steps": 4}
        given = {
            "profile": "embedded",
            "data": str(workbook),
            "overrides": settings | {"output_dir": str(folder / "outputs")},
            "grid": {"sft.learning_rate": rates},
            "where": "work-pool",
        }
        deployment = deployed.client.read_deployment_by_name(SWEEP)
        run = deployed.client.create_flow_run_from_deployment(deployment.id, parameters=given | parameters)
        self.flow_run_id = run.id
        self._since = run.created

    def of(self, name):
        """Return the flow runs of a deployment that this sweep started, the oldest first."""
        tagged = self._deployed.client.read_flow_runs(
            flow_run_filter=FlowRunFilter.model_validate({"tags": {"all_": ["pii-sweep"]}}), limit=200
        )
        wanted = self._deployed.client.read_deployment_by_name(name).id
        found = [run for run in tagged if run.deployment_id == wanted and run.created >= self._since]
        return sorted(found, key=lambda run: run.created)

    def in_mlflow(self):
        """Return the sweep's runs, and those of its trials by number."""
        [experiment] = self._deployed.mlflow.search_experiments(filter_string="name = 'pii-finetune'")
        runs = self._deployed.mlflow.search_runs([experiment.experiment_id])
        sweeps = [run for run in runs if run.data.tags.get("mlflow.runName") == "sweep"]
        newest = sweeps[0]
        own = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == newest.info.run_id]
        trials = {}
        for run in own:
            trials.setdefault(int(run.data.tags["trial"]), []).append(run)
        return newest, trials

    def wait(self, *names, seconds=900):
        return self._deployed.wait_for_state(self.flow_run_id, *names, seconds=seconds)


def test_so_many_trials_run_at_once_and_one_that_is_behind_is_stopped(deployed, small_workbook, tmp_path):
    # The last one learns nothing, so that it is behind whatever the others do.
    sweep = Sweep(deployed, small_workbook, tmp_path, [1e-3, 2e-3, 3e-3, 4e-3, 1e-9], 120, at_once=2)
    most = 0

    def is_over():
        nonlocal most
        most = max(most, sum(run.state.is_running() for run in sweep.of(TRIAL)))
        return deployed.client.read_flow_run(sweep.flow_run_id).state.is_final()

    deployed.wait(is_over, "the sweep did not end", 900)
    sweep.wait("Completed")
    assert most == 2
    assert [run.state.name for run in sweep.of(TRIAL)] == [*["Completed"] * 4, "Cancelled"]
    parent, trials = sweep.in_mlflow()
    assert {number: [run.info.status for run in runs] for number, runs in trials.items()} == {
        **{number: ["FINISHED"] for number in range(4)},
        4: ["KILLED"],
    }
    best = max(range(4), key=lambda number: (trials[number][0].data.metrics["validation_f1"], -number))
    assert parent.data.tags["best_trial"] == str(best)
    [judged] = sweep.of(MAIN)
    assert judged.parameters["overrides"]["sft.learning_rate"] == [1e-3, 2e-3, 3e-3, 4e-3][best]
    assert judged.state.name == "Completed"
    assert deployed.runs(judged.id)[0].info.run_id == parent.data.tags["best_run"]


def test_a_killed_trial_is_started_again_and_a_killed_sweep_finds_its_trials_again(deployed, small_workbook, tmp_path):
    sweep = Sweep(deployed, small_workbook, tmp_path, [1.1e-3, 2.1e-3], 150, pruning=False, at_once=1)

    def trial_at(step, attempt):
        begun = sweep.of(TRIAL)
        if len(begun) <= attempt:
            return None
        return begun[attempt] if reached(begun[attempt].id, step) else None

    def reached(flow_run_id, step):
        return any(max(deployed.steps(run), default=0) >= step for run in deployed.runs(flow_run_id, "sft"))

    killed = deployed.wait(lambda: trial_at(20, 0), "the first trial did not reach step 20", 300)
    deployed.process(killed.id).kill()
    second = deployed.wait(lambda: trial_at(60, 1), "the trial was not started again", 300)
    assert second.parameters == killed.parameters

    deployed.process(sweep.flow_run_id).kill()  # the trial goes on meanwhile
    deployed.wait_for_state(sweep.flow_run_id, "Crashed")
    key = f"resume:{sweep.flow_run_id}"
    resumed = deployed.wait(
        lambda: next((run for run in deployed.flow_runs(SWEEP) if run.idempotency_key == key), None),
        "nothing resumes the sweep",
        200,
    )
    deployed.wait_for_state(resumed.id, "Completed", seconds=900)

    assert [run.state.name for run in sweep.of(TRIAL)] == ["Crashed", "Completed", "Completed"]
    _, trials = sweep.in_mlflow()
    assert {number: [run.info.status for run in runs] for number, runs in trials.items()} == {
        0: ["FINISHED"],
        1: ["FINISHED"],
    }
    for [run] in trials.values():
        flow_run_id = run.data.tags["prefect_flow_run_id"]
        [sft] = deployed.runs(flow_run_id, "sft")
        assert deployed.steps(sft) == [1, *range(5, 151, 5)]
