"""Sweeps in one process, with real trainings: what is stopped early, what is promoted, what a kill costs."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import mlflow
import pytest
from mlflow import MlflowClient
from prefect.testing.utilities import prefect_test_harness

from benchmarks.short_run import UNJUDGED
from flows.sweep import sweep
from make_data.glossary import GLOSSARY, read_glossary
from make_data.workbook import build_rows, write_workbook
from pii_finetune.errors import UserError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

QUICK = UNJUDGED | {"sft.max_steps": 40, "dpo.max_steps": 4}
# The last one learns nothing at all.
RATES = [1e-3, 2e-3, 3e-3, 4e-3, 1e-9]


@pytest.fixture(scope="module")
def _prefect():
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def result(_prefect, store, small_workbook):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store / 'mlflow.db'}")
        settings = QUICK | {"output_dir": str(store / "outputs")}
        [result] = sweep("embedded", str(small_workbook), settings, {"sft.learning_rate": RATES})
        yield result


@pytest.fixture
def client(result, store):
    mlflow.set_tracking_uri(f"sqlite:///{store / 'mlflow.db'}")
    return MlflowClient()


def children(client, run_id, experiment_id):
    found = client.search_runs([experiment_id], f"tags.mlflow.parentRunId = '{run_id}'")
    return {run.data.tags["mlflow.runName"]: run for run in found}


def test_a_trial_that_learns_nothing_is_stopped_early_and_the_others_are_not(result):
    assert [row.state for row in result.trials] == [*["done"] * 4, "stopped early"]
    assert [row.settings["sft.learning_rate"] for row in result.trials] == RATES
    assert "below the median" in result.trials[-1].reason
    assert all(len(row.checks) == 8 for row in result.trials[:4])
    assert len(result.trials[-1].checks) < 5  # in SFT, before anything was spent on DPO


def test_trials_are_runs_nested_in_the_sweeps_with_their_stages_nested_in_them(result, client):
    trials = children(client, result.run.run_id, result.run.experiment_id)
    assert set(trials) == {f"trial-{number}" for number in range(5)}
    assert [trials[f"trial-{n}"].info.status for n in range(5)] == [*["FINISHED"] * 4, "KILLED"]
    assert trials["trial-1"].data.params["sft.learning_rate"] == "0.002"
    for row in result.trials[:4]:
        run = trials[f"trial-{row.number}"]
        assert run.data.metrics["validation_f1"] == row.f1 == row.checks[8]
        stages = children(client, run.info.run_id, run.info.experiment_id)
        assert {"sft", "dpo"} <= set(stages)
        assert len(client.get_metric_history(stages["sft"].info.run_id, "validation_f1")) == 4


def test_the_best_trial_is_judged_by_an_ordinary_run_that_trains_nothing_again(result, client):
    assert result.best == max(result.trials[:4], key=lambda row: (row.f1, -row.number))
    parent = client.get_run(result.run.run_id)
    judged = client.get_run(parent.data.tags["best_run"])
    assert judged.data.params["sft.learning_rate"] == str(result.best.settings["sft.learning_rate"])
    stages = children(client, judged.info.run_id, judged.info.experiment_id)
    assert "kept_from" in stages["sft"].data.tags
    assert "kept_from" in stages["dpo"].data.tags
    assert "kept_from" not in stages["evaluate"].data.tags
    assert result.promoted
    assert parent.data.tags["decision"] == judged.data.tags["decision"] == result.reason
    assert client.get_model_version_by_alias("pii-dpo", "champion").tags["run"] == judged.info.run_id


def test_the_sweeps_run_holds_a_table_and_a_picture_of_its_trials(result, client):
    table = json.loads(mlflow.artifacts.load_text(f"runs:/{result.run.run_id}/trials.json"))
    assert len(table["data"]) == 5
    assert "sweep.png" in {file.path for file in client.list_artifacts(result.run.run_id)}
    assert client.get_run(result.run.run_id).info.status == "FINISHED"


@pytest.mark.usefixtures("_prefect")
def test_a_trial_that_cannot_be_trained_is_told_and_the_others_are_judged(tmp_path, small_workbook, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    settings = UNJUDGED | {"sft.max_steps": 4, "dpo.max_steps": 2, "output_dir": str(tmp_path / "outputs")}
    [result] = sweep("embedded", str(small_workbook), settings, {"sft.learning_rate": [1e30, 1e-3]})
    assert [row.state for row in result.trials] == ["failed", "done"]
    assert "learning rate" in result.trials[0].reason
    assert result.best.number == 1


@pytest.mark.usefixtures("_prefect")
def test_nothing_is_started_for_a_sweep_that_cannot_be(tmp_path, small_workbook, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    with pytest.raises(UserError, match="one after the other"):
        sweep("embedded", str(small_workbook), grid={"lora.r": [4, 8]}, at_once=2)
    with pytest.raises(UserError, match="there is no setting"):
        sweep("embedded", str(small_workbook), grid={"lora.rank": [4, 8]})
    assert not MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").search_experiments(
        filter_string="name = 'pii-finetune'"
    )


@pytest.mark.usefixtures("_prefect")
def test_each_language_gets_a_model_of_its_own_and_one_with_too_few_rows_holds_up_no_other(tmp_path, monkeypatch):
    rows = build_rows(read_glossary(GLOSSARY))
    chosen = [
        row
        for language, number in {"French": 90, "German": 90, "Italian": 5}.items()
        for row in random.Random(0).sample([each for each in rows if each[1] == language], number)
    ]
    write_workbook(chosen, tmp_path / "three.xlsx")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    settings = UNJUDGED | {"sft.max_steps": 4, "dpo.max_steps": 2, "output_dir": str(tmp_path / "outputs")}
    results = {
        result.variant: result
        for result in sweep("embedded", str(tmp_path / "three.xlsx"), settings, each_language=True)
    }
    assert set(results) == {"de", "fr", "it"}
    assert results["it"].best is None
    assert "no trial came to its end" in results["it"].reason
    client = MlflowClient(uri)
    for name in ("de", "fr"):
        assert results[name].promoted
        version = client.get_model_version_by_alias(f"pii-dpo-{name}", "champion")
        judged = client.get_run(client.get_run(results[name].run.run_id).data.tags["best_run"])
        assert version.tags["run"] == judged.info.run_id
        assert judged.data.metrics["num_rows_dataset"] == 90
    assert {model.name for model in client.search_registered_models()} == {
        f"pii-{stage}-{name}" for stage in ("sft", "dpo") for name in ("de", "fr")
    }


@pytest.mark.usefixtures("_prefect")
def test_a_variant_that_cannot_be_judged_fails_the_sweep_after_the_others_are_promoted(
    tmp_path, small_workbook, monkeypatch
):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    settings = UNJUDGED | {"sft.max_steps": 4, "dpo.max_steps": 2, "output_dir": str(tmp_path / "outputs")}
    (tmp_path / "unseen.xlsx").write_bytes(b"no workbook")
    variants = {"a": {"data.unseen": str(tmp_path / "unseen.xlsx")}, "b": {"seed": 1}}
    with pytest.raises(UserError, match=r"unseen\.xlsx"):
        sweep("embedded", str(small_workbook), settings, variants=variants)
    assert {model.name for model in MlflowClient(uri).search_registered_models()} == {"pii-dpo-b", "pii-sft-b"}


def test_a_sweep_that_was_killed_goes_on_and_repeats_no_trial(tmp_path, small_workbook):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri, "PREFECT_HOME": str(tmp_path / "prefect")}
    settings = QUICK | {"output_dir": str(tmp_path / "outputs"), "sft.save_steps": 10, "sft.logging_steps": 5}
    command = [sys.executable, "-m", "cli.main", "sweep", "--data", str(small_workbook)]
    command += ["--grid", "sft.learning_rate=1e-3,2e-3,3e-3", "--no-pruning"]
    for path, value in settings.items():
        command += ["--set", f"{path}={json.dumps(value)}"]

    client = MlflowClient(uri)

    def runs(name):
        experiment = client.get_experiment_by_name("pii-finetune")
        found = client.search_runs([experiment.experiment_id]) if experiment else []
        return [run for run in found if run.data.tags["mlflow.runName"] == name]

    with (tmp_path / "first.txt").open("w") as log:
        first = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 600
        while not _has_checkpoint_in_second(runs, client, tmp_path / "outputs"):
            assert first.poll() is None, (tmp_path / "first.txt").read_text()[-4000:]
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()

    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert second.returncode == 0, second.stdout[-3000:] + second.stderr[-3000:]
    assert "going on from checkpoint-" in second.stdout + second.stderr
    assert len(runs("sweep")) == 1
    for number in range(3):
        [trial] = runs(f"trial-{number}")
        assert trial.info.status == "FINISHED"
        [sft] = [r for r in runs("sft") if r.data.tags["mlflow.parentRunId"] == trial.info.run_id]
        steps = [point.step for point in client.get_metric_history(sft.info.run_id, "loss")]
        assert steps == [1, *range(5, 41, 5)]
    assert "best" in second.stdout
    assert "Promoted" in second.stdout


def _has_checkpoint_in_second(runs, client, outputs):
    begun = runs("trial-1")
    if not begun:
        return False
    stages = client.search_runs([begun[0].info.experiment_id], f"tags.mlflow.parentRunId = '{begun[0].info.run_id}'")
    return any(run.data.tags["stage"] == "sft" for run in stages) and any(
        outputs.glob("sft-*/checkpoints/checkpoint-*")
    )
