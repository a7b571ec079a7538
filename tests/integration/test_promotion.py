import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from cli.main import main
from pii_finetune.by_hand import rollback
from pii_finetune.errors import MissingModelError, PromotionRefusedError
from pii_finetune.promotion_history import history
from pii_finetune.promotion_plan import Plan, carry_out, pending_plan
from pii_finetune.registry import DPO_MODEL, PAIR, SFT_MODEL, promote, promote_pair, repair
from pii_finetune.registry_state import read_state

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent


def in_production(name):
    """The version that stage and alias name; they must name one and the same, and no promotion may be left open."""
    state = read_state(MlflowClient(), name)
    assert len(state.production) <= 1
    assert state.champion == state.loaded
    assert pending_plan(state) is None
    return state.loaded


def test_the_pair_is_promoted_together(registry_uri):
    assert promote_pair("1", "1") is not None
    made = promote_pair("2", "2", reason="it is\nbetter \x1b[31m", by="flow run x")
    assert [in_production(name) for name in PAIR] == ["2", "2"]
    assert (made.version, made.previous, made.by, made.reason, made.kind) == (
        "2",
        "1",
        "flow run x",
        "it is better [31m",
        "promotion",
    )
    stages = {each.version: each.current_stage for each in MlflowClient().search_model_versions(f"name='{DPO_MODEL}'")}
    assert stages == {1: "Archived", 2: "Production", 3: "None"}


def test_promoting_what_is_in_production_changes_nothing(registry_uri):
    promote_pair("1", "1")
    assert promote_pair("1", "1", expected_production="3") is None
    assert len(history(DPO_MODEL)) == len(history(SFT_MODEL)) == 1


def test_a_model_that_was_never_compared_with_is_not_replaced(registry_uri):
    promote_pair("1", "1", expected_production=None)
    promote_pair("2", "2", expected_production="1")
    for expected in ("1", None):
        with pytest.raises(PromotionRefusedError, match="meanwhile version 2 is in Production"):
            promote_pair("3", "3", expected_production=expected)
    assert [in_production(name) for name in PAIR] == ["2", "2"]


def test_an_unknown_version_is_refused_with_those_there_are_and_nothing_is_changed(registry_uri):
    promote_pair("1", "1")
    with pytest.raises(MissingModelError, match="pii-sft has no version '9'; those it has: 1, 2, 3"):
        promote_pair("9", "2")
    with pytest.raises(MissingModelError, match="there is no registered model 'nobody'"):
        promote("nobody", "1")
    assert [in_production(name) for name in PAIR] == ["1", "1"]


def test_history_keeps_every_promotion_of_a_version(registry_uri):
    for version in ("1", "2", "1", "3"):
        promote(DPO_MODEL, version, reason=f"for {version}")
    past = history(DPO_MODEL)
    assert [(each.previous, each.version) for each in past] == [(None, "1"), ("1", "2"), ("2", "1"), ("1", "3")]
    assert [each.reason for each in past] == ["for 1", "for 2", "for 1", "for 3"]
    assert all("@" in each.by for each in past)


@pytest.fixture
def _not_verified(monkeypatch):
    """These versions have no files."""
    monkeypatch.setattr("pii_finetune.by_hand.verify_registered", lambda _: None)


@pytest.mark.usefixtures("_not_verified")
def test_a_rollback_goes_back_to_the_version_before_with_its_pair(registry_uri):
    for version in ("1", "2", "3"):
        promote_pair(version, version)
    assert rollback(DPO_MODEL, "3 is wrong about e-mail").promotion.version == "2"
    assert [in_production(name) for name in PAIR] == ["2", "2"]
    assert history(DPO_MODEL)[-1].kind == "rollback"
    assert rollback(SFT_MODEL, "so is 2").promotion.version == "1"
    assert [in_production(name) for name in PAIR] == ["1", "1"]
    with pytest.raises(PromotionRefusedError, match="history knows of no version of pii-dpo"):
        rollback(DPO_MODEL, "and 1")


def test_a_rollback_to_a_deleted_version_is_refused(registry_uri):
    for version in ("1", "2"):
        promote_pair(version, version)
    MlflowClient().delete_model_version(DPO_MODEL, "1")
    with pytest.raises(MissingModelError, match="has no version '1'; those it has: 2, 3"):
        rollback(DPO_MODEL, "back")


def test_stages_moved_by_hand_are_put_right(registry_uri):
    promote_pair("1", "1")
    client = MlflowClient()
    client.transition_model_version_stage(DPO_MODEL, "2", "Production", archive_existing_versions=False)
    assert repair() == (
        "archived all versions of pii-dpo in Production but the newest, 2",
        "moved pii-dpo@champion from version 1 to 2, as in Production",
    )
    assert in_production(DPO_MODEL) == "2"
    assert repair() == ()


def test_stages_moved_past_the_lock_meanwhile_are_told(registry_uri, monkeypatch):
    def disturbed(client, plan, confirm):
        carry_out(client, plan, confirm)
        client.transition_model_version_stage(DPO_MODEL, "3", "Production", archive_existing_versions=True)

    monkeypatch.setattr("pii_finetune.registry.carry_out", disturbed)
    with pytest.raises(PromotionRefusedError, match="in Production now 3, champion 1"):
        promote_pair("1", "1")


# Where a promotion of the pair is killed, and what the next one finds: pii-dpo's stage decides.
KILLED_BEFORE = {
    "transition_model_version_stage": "1",
    "set_registered_model_alias": "2",
    "set_model_version_tag": "2",
    "transition_model_version_stage#2": "2",
    "set_registered_model_alias#2": "2",
    "delete_registered_model_tag": "2",
}


@pytest.fixture(scope="module")
def killed(empty_store, tmp_path_factory):
    """For each place, a registry with version 1 in production whose promotion to version 2 was killed there."""
    folder = tmp_path_factory.mktemp("killed")
    first = folder / "first.db"
    shutil.copy(empty_store, first)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{first}")
    client = MlflowClient()
    for name in PAIR:
        client.create_registered_model(name)
        for _ in range(2):
            client.create_model_version(name, "s3://nowhere/model")
    promote_pair("1", "1")
    mlflow.set_tracking_uri(before)
    uris = {}
    for call in KILLED_BEFORE:
        store = folder / f"{call.replace('#', '-')}.db"
        shutil.copy(first, store)
        uris[call] = f"sqlite:///{store}"
    program = [sys.executable, HERE / "break_promotions.py", *(f"{uri}={call}" for call, uri in uris.items())]
    subprocess.run(program, check=True, timeout=300)
    return uris


@pytest.mark.parametrize("call", KILLED_BEFORE)
def test_a_killed_promotion_is_finished_or_dropped_as_a_whole(killed, call):
    mlflow.set_tracking_uri(killed[call])
    broken = [read_state(MlflowClient(), name) for name in PAIR]
    assert pending_plan(broken[0]) is not None
    assert [len(state.production) for state in broken] == [1, 1]
    assert len(repair()) == 1
    assert [in_production(name) for name in PAIR] == [KILLED_BEFORE[call]] * 2
    for name in PAIR:
        past = history(name)
        assert [each.version for each in past] == ["1", "2"][: int(KILLED_BEFORE[call])]
        assert KILLED_BEFORE[call] == "1" or (past[-1].by, past[-1].previous) == ("somebody", "1")


def test_the_next_promotion_first_finishes_a_killed_one(killed, tmp_path):
    source = Path(killed["set_registered_model_alias"].removeprefix("sqlite:///"))
    copy = tmp_path / "mlflow.db"
    shutil.copy(source, copy)
    mlflow.set_tracking_uri(f"sqlite:///{copy}")
    MlflowClient().delete_registered_model_alias(DPO_MODEL, "champion")
    promote_pair("1", "1", reason="back", expected_production="2")
    assert [in_production(name) for name in PAIR] == ["1", "1"]
    assert [each.version for each in history(SFT_MODEL)] == ["1", "2", "1"]


@pytest.mark.usefixtures("_not_verified")
def test_the_commands_promote_roll_back_and_tell_history(registry_uri, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["history"]) == 0
    assert "no promotion of pii-dpo is recorded" in capsys.readouterr().out
    assert main(["promote", "1", "--reason", "the first"]) == 0
    assert "pii-dpo version 1 and pii-sft version 1 are in Production (before: none)" in capsys.readouterr().out
    assert main(["promote", "2", "--model", "pii-sft", "--reason", "[bold]more\x1b[2J"]) == 0
    assert "pii-dpo version 2 and pii-sft version 2 are in Production" in capsys.readouterr().out
    assert main(["promote", "2", "--reason", "again"]) == 0
    assert "are in Production already; nothing was changed" in capsys.readouterr().out
    assert main(["rollback"]) == 0
    assert "(before: pii-dpo version 2)" in capsys.readouterr().out
    assert main(["history"]) == 0
    shown = capsys.readouterr().out
    rows = [line for line in shown.splitlines() if "Z" in line]
    assert ["rollback" in rows[0], "[bold]more" in rows[1], "the first" in rows[2]] == [True] * 3
    assert "\x1b[2J" not in shown
    assert "in Production: pii-dpo version 1" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["promote", "9", "--reason", "x"], "pii-dpo has no version '9'; those it has: 1, 2, 3"),
        (["promote", "1", "--reason", "  "], "the reason is empty"),
        (["promote", "1", "--model", "none", "--reason", "x"], "there is no registered model 'none'"),
        (["rollback"], "no version of 'pii-dpo' is in Production"),
        (["history", "--model", "none"], "there is no registered model 'none'"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(registry_uri, capsys, arguments, message):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_version_without_its_other_half_is_not_promoted(registry_uri, capsys):
    MlflowClient().create_model_version(DPO_MODEL, "s3://nowhere/model", tags={"run": "alone"})
    assert main(["promote", "4", "--reason", "x"]) == 2
    assert "there is no version of pii-sft of the same run (tag run=alone)" in capsys.readouterr().err


@pytest.mark.usefixtures("_not_verified")
def test_a_model_that_is_not_of_the_pair_is_promoted_alone(registry_uri, capsys):
    client = MlflowClient()
    client.create_registered_model("another")
    client.create_model_version("another", "s3://nowhere/model")
    assert main(["promote", "1", "--model", "another", "--reason", "x"]) == 0
    assert in_production("another") == "1"
    assert in_production(DPO_MODEL) is None


def test_a_model_moved_by_hand_is_pointed_out_by_history_and_put_right_by_repair(registry_uri, capsys):
    promote_pair("1", "1")
    assert main(["repair"]) == 0
    assert "nothing to repair" in capsys.readouterr().out
    MlflowClient().transition_model_version_stage(DPO_MODEL, "2", "Production", archive_existing_versions=False)
    assert main(["history"]) == 0
    told = capsys.readouterr().out
    assert "champion is 1; also in Production: version 1; `pii-finetune repair` mends that" in told
    assert main(["repair"]) == 0
    assert "archived all versions of pii-dpo in Production but the newest, 2" in capsys.readouterr().out


def test_a_broken_off_promotion_is_pointed_out_by_history(registry_uri, capsys):
    plan = Plan({DPO_MODEL: "2", SFT_MODEL: "2"}, {DPO_MODEL: None, SFT_MODEL: None}, "now", "me", "why", "promotion")
    MlflowClient().set_registered_model_tag(DPO_MODEL, "promotion_pending", json.dumps(asdict(plan)))
    assert main(["history"]) == 0
    assert "was broken off: `pii-finetune repair` finishes or drops it" in capsys.readouterr().out
    assert main(["repair"]) == 0
    assert "dropped the promotion of pii-dpo version 2 and pii-sft version 2" in capsys.readouterr().out


def test_versions_without_their_files_are_not_put_into_production_by_hand(registry_uri, capsys):
    promote_pair("1", "1")
    assert main(["promote", "2", "--reason", "I want it"]) == 2
    assert "models:/pii-dpo/2: could not be fetched" in capsys.readouterr().err
    assert [in_production(name) for name in PAIR] == ["1", "1"]
