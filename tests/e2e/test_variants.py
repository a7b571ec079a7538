"""The flow for one language of a workbook, into a pair of models of its own, beside the common one."""

import json
from types import SimpleNamespace

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient
from prefect.testing.utilities import prefect_test_harness

from benchmarks.short_run import UNJUDGED
from cli.main import main
from flows.finetune import finetune
from flows.score import score
from make_data.glossary import GLOSSARY, read_glossary
from make_data.workbook import build_rows, write_workbook
from pii_finetune.dataset_watch import read_rows
from pii_finetune.registry import paired_models
from pii_finetune.setup import build_config

pytestmark = pytest.mark.slow

FRENCH = {"data.languages": ["fr"], "variant": "fr"}


def assignments(settings):
    return [word for path, value in settings.items() for word in ("--set", f"{path}={json.dumps(value)}")]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The common model; French by the command line; French again, after other rows changed; French by another name."""
    store = tmp_path_factory.mktemp("store")
    every = build_rows(read_glossary(GLOSSARY))
    of = {language: [row for row in every if row[1] == language] for language in ("English", "French", "German")}
    workbook = store / "labels.xlsx"
    settings = UNJUDGED | {"sft.max_steps": 8, "dpo.max_steps": 2, "output_dir": str(store / "outputs")}
    with pytest.MonkeyPatch.context() as patch, prefect_test_harness(server_startup_timeout=120):
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store / 'mlflow.db'}")
        patch.setenv("COLUMNS", "300")
        write_workbook([*of["English"][:60], *of["French"][:70], *of["German"][:60]], workbook)
        common = finetune("embedded", str(workbook), settings)
        printed = tmp_path_factory.mktemp("printed") / "out.txt"
        with pytest.MonkeyPatch.context() as inner, printed.open("w", encoding="utf-8") as out:
            inner.setattr("sys.stdout", out)
            code = main(["run", "--data", str(workbook), *assignments(settings | FRENCH)])
        french_rows = read_rows(build_config("embedded", str(workbook), settings | FRENCH)).fingerprint
        write_workbook([*of["English"][60:120], *of["French"][:70]], workbook)
        again = finetune("embedded", str(workbook), settings | FRENCH)
        renamed = finetune("embedded", str(workbook), settings | FRENCH | {"variant": "fr-too"})
        yield SimpleNamespace(
            common=common,
            code=code,
            said=printed.read_text(encoding="utf-8"),
            french_rows=french_rows,
            again=again,
            renamed=renamed,
            workbook=workbook,
        )


@pytest.fixture
def client(runs, monkeypatch):
    uri = f"sqlite:///{runs.workbook.with_name('mlflow.db')}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    return MlflowClient()


def parent(client, **tags):
    """The parent runs with these tags, the oldest first."""
    wanted = " and ".join(f"tags.{name} = '{value}'" for name, value in tags.items())
    found = client.search_runs(["1"], f"tags.run_key != '' and {wanted}", order_by=["attributes.start_time"])
    return [run for run in found if "stage" not in run.data.tags]


def children(client, run_id):
    found = client.search_runs(["1"], f"tags.mlflow.parentRunId = '{run_id}'")
    return {run.data.tags["stage"]: run for run in found}


def test_each_variant_has_a_pair_in_production_and_the_common_one_stays(runs, client):
    assert runs.code == 0
    assert set(paired_models()) == {
        f"pii-{kind}{ending}" for kind in ("sft", "dpo") for ending in ("", "-fr", "-fr-too")
    }
    for name in paired_models():
        (version,) = client.search_model_versions(f"name='{name}'")
        assert (version.current_stage, str(version.version)) == ("Production", "1")
        assert str(client.get_model_version_by_alias(name, "champion").version) == "1"


def test_the_command_says_which_models_it_made(runs):
    assert "(pii-dpo-fr version 1, pii-sft-fr version 1)" in runs.said
    assert "models:/pii-dpo-fr/Production loads without a server" in runs.said
    assert "there was no model in Production" in runs.said


def test_a_run_uses_the_rows_of_its_language_alone(runs, client):
    first, second = parent(client, variant="fr")
    for run in (first, second):
        assert run.data.tags["dataset_fingerprint"] == runs.french_rows
        assert run.data.metrics["num_rows_dataset"] == 70
        assert run.data.params["data.languages"] == "['French']"
    assert (
        mlflow.artifacts.load_text(f"runs:/{second.info.run_id}/data-report.html").count("60 rows of other languages")
        == 1
    )
    table = mlflow.artifacts.load_dict(
        f"runs:/{children(client, first.info.run_id)['evaluate'].info.run_id}/languages.json"
    )
    assert {row[table["columns"].index("languages")] for row in table["data"]} == {"French"}
    assert client.get_model_version("pii-dpo-fr", "1").tags["dataset_fingerprint"] == runs.french_rows
    assert client.get_model_version("pii-dpo", "1").tags["dataset_fingerprint"] != runs.french_rows


def test_a_variant_is_compared_with_its_own_model_in_production(runs, client):
    first, second = parent(client, variant="fr")
    assert "production_f1" not in first.data.metrics  # the common model was there, and is another's
    _, report, pair, decision = runs.again
    assert (pair.names, pair.dpo_version) == (("pii-dpo-fr", "pii-sft-fr"), "1")
    assert not decision.promote
    assert "equal to" in decision.reason
    assert report.test["production"].f1 == report.test["dpo"].f1
    assert "The same rows" in mlflow.artifacts.load_text(f"runs:/{second.info.run_id}/data-drift.md")


def test_rows_that_changed_in_other_languages_are_no_reason_to_train_again(runs, client):
    _, second = parent(client, variant="fr")
    kept = children(client, second.info.run_id)
    assert all("kept_from" in kept[stage].data.tags for stage in ("validate", "sft", "dpo"))
    assert "kept_from" not in kept["evaluate"].data.tags


def test_another_name_trains_nothing_and_is_compared_with_nobody(runs, client):
    tracked, report, pair, decision = runs.renamed
    assert pair.names == ("pii-dpo-fr-too", "pii-sft-fr-too")
    assert decision.promote
    assert "production" not in report.test
    kept = children(client, tracked.run_id)
    assert all("kept_from" in kept[stage].data.tags for stage in ("validate", "sft", "dpo", "evaluate"))
    card = mlflow.artifacts.load_text(f"runs:/{tracked.run_id}/dpo-card/README.md")
    assert 'mlflow.pyfunc.load_model("models:/pii-dpo-fr-too/Production")' in card
    assert "pii-dpo-fr-too from labels.xlsx" in mlflow.artifacts.load_text(f"runs:/{tracked.run_id}/report.html")


def test_a_table_is_answered_by_the_model_of_the_variant_that_is_named(runs, client, tmp_path):
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("label,language\nprénom,French\n", encoding="utf-8")
    assert score(str(source), str(target), model="models:/pii-dpo-fr/Production").num_rows == 1
    model = mlflow.pyfunc.load_model("models:/pii-dpo-fr@champion")
    said = model.predict(pd.DataFrame({"label": ["prénom"], "language": ["French"]}))
    assert target.read_text(encoding="utf-8").splitlines()[1].split(",")[2] == said["sensitive"][0]
