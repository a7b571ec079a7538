"""Pairs of models beside the common one: what is done to one is done to no other."""

import csv
import json
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlparse

import mlflow
import pandas as pd
import pytest
from mlflow import MlflowClient

from cli.main import main
from pii_finetune.by_hand import rollback
from pii_finetune.calibration import Calibration
from pii_finetune.errors import MissingModelError, PromotionRefusedError, TamperedModelError
from pii_finetune.model_folder import write_model_folder
from pii_finetune.model_names import model_names
from pii_finetune.promotion_history import history, next_moment
from pii_finetune.promotion_plan import Plan, pending_plan
from pii_finetune.registry import PAIR, paired_models, promote_pair, register, repair
from pii_finetune.registry_state import read_state
from pii_finetune.tracking import close_run, open_run, parent_run
from tasks.evaluate import check_production, load_production

pytestmark = pytest.mark.slow

FRENCH, HR = model_names("fr"), model_names("hr-2026.1")
PAIRS = (PAIR, FRENCH, HR)


def in_production(pair):
    """The version of each of a pair that stage and alias name, one and the same; no promotion may be left open."""
    found = []
    for name in pair:
        state = read_state(MlflowClient(), name)
        assert len(state.production) <= 1
        assert state.champion == state.loaded
        assert pending_plan(state) is None
        found.append(state.loaded)
    return found


@pytest.fixture
def registry(registry_uri):
    """As `registry_uri`, with three versions of each of both variants too."""
    client = MlflowClient()
    for pair in (FRENCH, HR):
        for name in pair:
            client.create_registered_model(name)
            for number in range(1, 4):
                client.create_model_version(name, "s3://nowhere/model", tags={"run": f"{pair.variant}-run-{number}"})
    return client


@pytest.fixture
def _not_verified(monkeypatch):
    """These versions have no files."""
    monkeypatch.setattr("pii_finetune.by_hand.verify_registered", lambda _: None)


def test_each_pair_is_promoted_by_itself(registry):
    promote_pair("1", "1")
    promote_pair("2", "2", pair=FRENCH, expected_production=None)
    promote_pair("3", "3", pair=HR)
    assert [in_production(pair) for pair in PAIRS] == [["1", "1"], ["2", "2"], ["3", "3"]]
    promote_pair("3", "3", pair=FRENCH, expected_production="2")
    assert [in_production(pair) for pair in PAIRS] == [["1", "1"], ["3", "3"], ["3", "3"]]
    assert [len(history(name)) for pair in PAIRS for name in pair] == [1, 1, 2, 2, 1, 1]
    with pytest.raises(
        PromotionRefusedError, match="pii-dpo-fr version 1: not promoted.* meanwhile version 3 is in Prod"
    ):
        promote_pair("1", "1", pair=FRENCH, expected_production="1")
    with pytest.raises(MissingModelError, match="pii-sft-fr has no version '9'; those it has: 1, 2, 3"):
        promote_pair("9", "1", pair=FRENCH)


@pytest.mark.usefixtures("_not_verified")
def test_a_rollback_of_a_variant_moves_its_pair_alone(registry):
    for version in ("1", "2", "3"):
        for pair in PAIRS:
            promote_pair(version, version, pair=pair)
    assert rollback("pii-dpo-fr", "3 is wrong").promotion.version == "2"
    assert [in_production(pair) for pair in PAIRS] == [["3", "3"], ["2", "2"], ["3", "3"]]
    assert rollback("pii-sft-fr", "so is 2").promotion.version == "1"
    assert [in_production(pair) for pair in PAIRS] == [["3", "3"], ["1", "1"], ["3", "3"]]
    assert rollback("pii-dpo", "the common one").promotion.version == "2"
    assert [in_production(pair) for pair in PAIRS] == [["2", "2"], ["1", "1"], ["3", "3"]]


@pytest.mark.usefixtures("_not_verified")
def test_the_commands_take_either_name_of_a_variant(registry, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["promote", "1", "--model", "pii-dpo-fr", "--reason", "the first"]) == 0
    assert "pii-dpo-fr version 1 and pii-sft-fr version 1 are in Production (before: none)" in capsys.readouterr().out
    assert main(["promote", "2", "--model", "pii-sft-fr", "--reason", "better"]) == 0
    assert "pii-dpo-fr version 2 and pii-sft-fr version 2 are in Production" in capsys.readouterr().out
    assert main(["rollback", "--model", "pii-sft-fr"]) == 0
    assert "(before: pii-dpo-fr version 2)" in capsys.readouterr().out
    assert main(["history", "--model", "pii-sft-fr"]) == 0
    assert "in Production: pii-sft-fr version 1" in capsys.readouterr().out
    assert main(["history"]) == 0
    assert "no promotion of pii-dpo is recorded" in capsys.readouterr().out
    assert main(["promote", "1", "--model", "pii-dpo-de", "--reason", "x"]) == 2
    assert "there is no registered model 'pii-dpo-de'" in capsys.readouterr().err


@pytest.mark.usefixtures("_not_verified")
def test_a_version_of_a_variant_is_not_paired_with_one_of_the_common_model(registry, capsys):
    registry.create_model_version("pii-dpo-fr", "s3://nowhere/model", tags={"run": "run-1"})
    assert main(["promote", "4", "--model", "pii-dpo-fr", "--reason", "x"]) == 2
    assert "there is no version of pii-sft-fr of the same run (tag run=run-1)" in capsys.readouterr().err


def plan_french(registry):
    """Write down a promotion of version 2 that was killed."""
    versions = dict.fromkeys(FRENCH, "2"), dict.fromkeys(FRENCH, "1")
    plan = Plan(*versions, next_moment(history("pii-dpo-fr")), "me", "why", "promotion")
    registry.set_registered_model_tag("pii-dpo-fr", "promotion_pending", json.dumps(asdict(plan)))


@pytest.mark.parametrize("name", FRENCH)
def test_a_variant_is_repaired_as_a_pair_and_no_other_is_touched(registry, name):
    for pair in PAIRS:
        promote_pair("1", "1", pair=pair)
    for model in ("pii-dpo", "pii-dpo-fr"):
        registry.transition_model_version_stage(model, "2", "Production", archive_existing_versions=False)
    plan_french(registry)
    (told,) = repair(name)
    assert told.startswith(
        "finished the promotion of pii-dpo-fr version 2 and pii-sft-fr version 2 that me began at 20"
    )
    assert in_production(FRENCH) == ["2", "2"]
    assert read_state(registry, "pii-dpo").production == ("1", "2")
    assert in_production(HR) == ["1", "1"]


def test_a_promotion_of_a_variant_that_was_broken_off_is_finished_by_its_next_one(registry):
    promote_pair("1", "1", pair=FRENCH)
    plan_french(registry)
    registry.transition_model_version_stage("pii-dpo-fr", "2", "Production", archive_existing_versions=True)
    promote_pair("1", "1")
    assert pending_plan(read_state(registry, "pii-dpo-fr")) is not None  # the common pair's looked after its own
    promote_pair("3", "3", pair=FRENCH, expected_production="2")
    assert in_production(FRENCH) == ["3", "3"]
    assert registry.get_model_version("pii-sft-fr", "2").current_stage == "Archived"


def test_all_pairs_there_are_are_found(registry):
    registry.create_registered_model("pii-other")
    assert set(paired_models()) == {name for pair in PAIRS for name in pair}


def says(probability):
    """A calibration that makes every margin this probability, so that an answer tells which model gave it."""
    return Calibration("isotonic", knots=((-1.0, probability), (1.0, probability)))


@pytest.fixture
def made(config, sft, tracking, tmp_path):
    """Two real versions of both models of each pair, the second in production; version N of pair P says 0.PN."""
    for at, pair in enumerate(PAIRS, start=1):
        for number in (1, 2):
            run = open_run(config.model_copy(update={"variant": pair.variant}), {})
            assert MlflowClient().get_run(run.run_id).data.tags.get("variant") == pair.variant
            folder = tmp_path / f"{at}-{number}"
            write_model_folder(folder, sft[0].path, config.base, "f" * 64, says(round(at / 10 + number / 100, 2)))
            with parent_run(run):
                for name in pair:
                    register(name, folder, {"run": run.run_id}, "")
            close_run(run, "FINISHED")
            promote_pair(str(number), str(number), pair=pair)


def answers(tmp_path):
    """What each pair's model in production says of one label."""
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("label,language\nprénom,French\n", encoding="utf-8")
    said = []
    for pair in PAIRS:
        assert main(["score", str(source), "--out", str(target), "--model", f"models:/{pair.dpo}/Production"]) == 0
        with target.open(encoding="utf-8") as file:
            said.append(round(float(next(csv.DictReader(file))["probability"]), 6))
    return said


def test_real_models_of_variants_answer_are_put_back_and_exported_each_for_itself(made, tmp_path, capsys):
    assert answers(tmp_path) == [0.12, 0.22, 0.32]
    assert main(["rollback", "--model", "pii-sft-fr", "--reason", "2 is wrong"]) == 0
    assert "pii-dpo-fr version 1 and pii-sft-fr version 1 are in Production" in capsys.readouterr().out
    assert [in_production(pair) for pair in PAIRS] == [["2", "2"], ["1", "1"], ["2", "2"]]
    assert answers(tmp_path) == [0.12, 0.21, 0.32]

    champion = mlflow.pyfunc.load_model("models:/pii-dpo-hr-2026.1@champion")
    said = champion.predict(pd.DataFrame({"label": ["prénom"], "language": ["French"]}))
    assert said["probability"].tolist() == pytest.approx([0.32])
    assert main(["export", "--model", "models:/pii-dpo-fr/Production", "--out", str(tmp_path / "export")]) == 0
    assert json.loads((tmp_path / "export" / "calibration.json").read_text())["knots"] == [[-1.0, 0.21], [1.0, 0.21]]

    assert main(["promote", "2", "--model", "pii-dpo-fr", "--reason", "it was not"]) == 0
    assert answers(tmp_path) == [0.12, 0.22, 0.32]


def test_a_run_verifies_and_compares_with_the_model_in_production_of_its_variant(made, config, tmp_path):
    runs = {pair.variant: config.model_copy(update={"variant": pair.variant}) for pair in (*PAIRS, model_names("de"))}
    said = load_production(runs["fr"], "2", tmp_path / "fetched")([("prénom", "French")])
    assert said.probability == pytest.approx([0.22])

    uri = MlflowClient().get_model_version_download_uri("pii-dpo-fr", "2")
    (stored,) = Path(urlparse(uri).path).rglob("adapter_model.safetensors")
    stored.write_bytes(stored.read_bytes()[:-1] + b"\x7f")
    for variant in (None, "hr-2026.1", "de"):
        check_production.fn(runs[variant])
    with pytest.raises(TamperedModelError, match="models:/pii-dpo-fr/2.*adapter_model.safetensors: was changed"):
        check_production.fn(runs["fr"])
