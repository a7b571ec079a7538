import asyncio
import json
import math
from dataclasses import replace

import mlflow
import pytest
from mlflow import MlflowClient
from prefect.client.orchestration import get_client
from prefect.testing.utilities import prefect_test_harness

from benchmarks.short_run import UNJUDGED
from flows.finetune import finetune
from flows.score import score
from pii_finetune.dataset_log import production_rows
from pii_finetune.drift import compare
from pii_finetune.errors import BadWorkbookError

pytestmark = pytest.mark.slow

QUICK = UNJUDGED | {"sft.max_steps": 8, "dpo.max_steps": 2}


@pytest.fixture(scope="module", autouse=True)
def _prefect():
    """A real Prefect API with a database of its own."""
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def runs(store, small_workbook):
    """The same data twice: the first run finds nothing in production, the second its own equal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store / 'mlflow.db'}")
        settings = QUICK | {"output_dir": str(store / "outputs")}
        yield [finetune("embedded", str(small_workbook), settings) for _ in range(2)]


def artifacts(key):
    async def read():
        async with get_client() as client:
            found = await client.read_artifacts()
            return [artifact for artifact in found if artifact.key == key]

    return asyncio.run(read())


def test_the_first_model_is_promoted_and_an_equal_one_is_refused(runs):
    (_, _, pair, first), (_, report, _, second) = runs
    assert first.promote
    assert "there was no model in Production" in first.reason
    assert not second.promote
    assert "equal to" in second.reason
    assert report.test["production"].f1 == report.test["dpo"].f1
    client = MlflowClient()
    for name, version in (("pii-dpo", pair.dpo_version), ("pii-sft", pair.sft_version)):
        in_production = [v for v in client.search_model_versions(f"name='{name}'") if v.current_stage == "Production"]
        assert [str(v.version) for v in in_production] == [version]
        assert str(client.get_model_version_by_alias(name, "champion").version) == version


def test_a_candidate_below_the_minimum_is_refused_even_without_a_model_in_production(
    store, small_workbook, monkeypatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store / 'empty.db'}")
    _, _, _, decision = finetune(
        "embedded", str(small_workbook), QUICK | {"gate.minimum_f1": 1.0, "output_dir": str(store)}
    )
    assert not decision.promote
    assert "does not reach gate.minimum_f1" in decision.reason
    assert not [v for v in MlflowClient().search_model_versions("name='pii-dpo'") if v.current_stage == "Production"]
    mlflow.set_tracking_uri(None)


def test_mlflow_holds_one_parent_with_a_child_a_stage(runs, store, monkeypatch):
    mlflow.set_tracking_uri(f"sqlite:///{store / 'mlflow.db'}")
    client = MlflowClient()
    tracked, report, _, _ = runs[0]
    parent = client.get_run(tracked.run_id)
    assert parent.info.status == "FINISHED"
    assert parent.data.params["sft.max_steps"] == "8"
    assert parent.data.params["lora.r"] == "16"
    assert {"dataset_fingerprint", "profile", "git_commit", "prefect_flow_run_id", "decision"} <= set(parent.data.tags)
    assert len(parent.inputs.dataset_inputs) == 4
    children = client.search_runs([tracked.experiment_id], f"tags.mlflow.parentRunId = '{tracked.run_id}'")
    by_stage = {child.data.tags["stage"]: child for child in children}
    assert set(by_stage) == {"validate", "sft", "dpo", "evaluate"}
    assert all(child.info.status == "FINISHED" for child in children)
    losses = client.get_metric_history(by_stage["sft"].info.run_id, "loss")
    assert losses
    assert all(math.isfinite(point.value) for point in losses)
    files = {file.path for file in client.list_artifacts(by_stage["evaluate"].info.run_id)}
    assert {"models.png", "confusion.png", "languages.png", "predictions.json", "languages.json"} <= files
    adapter = {file.path for file in client.list_artifacts(by_stage["dpo"].info.run_id, "adapter")}
    assert adapter == {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
    kept = {file.path for file in client.list_artifacts(tracked.run_id)}
    assert {"data-docs", "data-report.html", "dataset.parquet"} <= kept
    assert "data-drift.md" not in kept  # there was no model whose data could have been another
    assert len(report.predictions) == report.test["dpo"].num_rows


def test_a_retraining_run_says_what_changed_since_the_data_of_the_model_in_production(runs, store):
    mlflow.set_tracking_uri(f"sqlite:///{store / 'mlflow.db'}")
    tracked = runs[1][0]
    page = mlflow.artifacts.load_text(f"runs:/{tracked.run_id}/data-drift.md")
    assert "The same rows" in page
    assert MlflowClient().get_run(tracked.run_id).data.metrics["rows_added"] == 0
    assert artifacts("data-drift")


def test_a_row_that_was_relabelled_is_in_the_drift_from_production(runs, store, small_workbook):
    mlflow.set_tracking_uri(f"sqlite:///{store / 'mlflow.db'}")
    old = production_rows("pii-dpo")
    assert old is not None
    new = [replace(old[0], sensitive=not old[0].sensitive), *old[2:]]
    drift = compare(old, new)
    assert [(each.old, each.new) for each in drift.relabelled] == [(old[0], new[0])]
    assert drift.removed == (old[1],)


def test_prefect_holds_progress_tables_links_and_the_reason(runs):
    assert {artifact.data for artifact in artifacts("sft-progress")} == {100.0}
    told = [artifact.data for artifact in artifacts("promotion")]
    for *_, decision in runs:
        assert any(decision.reason in text for text in told)
    assert artifacts("evaluation")
    assert artifacts("validation")
    assert artifacts("mlflow-run")


def test_a_table_is_answered_by_the_model_in_production(runs, store, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store / 'mlflow.db'}")
    rows = ["label,language", "first name,English", "file size,Klingon", "first name,English"]
    (tmp_path / "in.csv").write_text("\n".join(rows), encoding="utf-8")
    report = score(str(tmp_path / "in.csv"), str(tmp_path / "out.csv"))
    assert (report.num_rows, report.num_asked, report.unknown_languages) == (3, 2, {"Klingon": 1})
    assert len((tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()) == 4
    (table,) = artifacts("score")
    assert '"count": 3' in table.data
    assert {artifact.data for artifact in artifacts("score-progress")} == {100.0}


def test_a_bad_workbook_fails_the_run_and_leaves_its_mlflow_run_failed(store, tmp_path, monkeypatch):
    from make_data.workbook import write_workbook

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store / 'bad.db'}")
    path = tmp_path / "bad.xlsx"
    write_workbook([(f"label {n}", "English", "maybe" if n == 3 else "yes", "test") for n in range(30)], path)
    with pytest.raises(BadWorkbookError, match="row 5"):
        finetune("embedded", str(path), QUICK | {"output_dir": str(tmp_path)})
    runs = MlflowClient().search_runs(["1"], order_by=["attributes.start_time"])
    assert [run.data.tags.get("stage") for run in runs] == [None, "validate"]
    assert {run.info.status for run in runs} == {"FAILED"}
    (table,) = artifacts("bad-rows")
    (cell,) = json.loads(table.data)
    assert (cell["row"], cell["column"], cell["found"]) == (5, "sensitive", "'maybe'")
