"""Who may what of an MLflow server with basic auth, once `deploy` has made the users: by the real server."""

import io
import sqlite3
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client

from cli import mlflow_users
from pii_finetune.errors import MissingModelError, PromotionLockedError
from pii_finetune.model_names import model_names
from pii_finetune.promotion_tickets import LOCK_MODEL, ticket_lock
from pii_finetune.registry import DPO_MODEL, PAIR, SFT_MODEL, paired_models, production_version, promote_pair
from pii_finetune.registry_state import read_state

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))  # pytest imports test files without their folder
from servers import mlflow_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

PASSWORDS = {name: f"of-{name}-and-nobody-else" for name in ("admin", "worker", "reader", "ada")}


class Server:
    """An MLflow server that shows nothing to whom was granted nothing, as in docker/mlflow-auth.ini."""

    def __init__(self, uri, folder):
        self.uri, self._folder = uri, folder

    def make_users(self, **settings):
        """As `deploy` does; returns its exit code and what it said."""
        passwords = {f"MLFLOW_{name.upper()}_PASSWORD": PASSWORDS[name] for name in ("admin", "worker", "reader")}
        log_in = dict.fromkeys(("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"), "")  # it changes these
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said):
            for name, value in (passwords | log_in | {"MLFLOW_TRACKING_URI": self.uri} | settings).items():
                patch.setenv(name, value)
            mlflow.set_tracking_uri(self.uri)
            return mlflow_users.main(), said.getvalue()

    def contents(self):
        """Everything in both databases that `deploy` writes, less the salted hashes of passwords."""
        queries = {
            "auth.db": (
                "SELECT username, is_admin FROM users",
                "SELECT role_id, resource_type, resource_pattern, permission FROM role_permissions",
                "SELECT user_id, role_id FROM user_role_assignments",
            ),
            "server.db": (
                "SELECT experiment_id, name, lifecycle_stage FROM experiments",
                "SELECT name, description, creation_time FROM registered_models",
            ),
        }
        found = {}
        for name, asked in queries.items():
            database = sqlite3.connect(self._folder / name)
            found |= {query: sorted(map(str, database.execute(query))) for query in asked}
            database.close()
        return found


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    (folder / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = sqlite:///{folder / 'auth.db'}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
        "auth_cache_ttl_seconds = 600\n"  # hashing the password for each request is most of what this test would do
    )
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORDS["admin"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "for this test",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with mlflow_server(folder, "--app-name", "basic-auth", **environment) as port:
        server = Server(f"http://127.0.0.1:{port}", folder)
        code, said = server.make_users()
        assert code == 0, said
        yield server


@pytest.fixture
def log_in(server, monkeypatch):
    """Returns what makes this process a user of the server."""
    monkeypatch.delenv("PII_FINETUNE_LOCK_URI", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    mlflow.set_tracking_uri(server.uri)

    def become(name):
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", name)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORDS[name])
        return MlflowClient()

    return become


@pytest.fixture
def versions(log_in, tmp_path):
    """Two new versions of each model, [(sft, dpo), (sft, dpo)], made by `worker` from an artifact of its run."""
    client = log_in("worker")
    (tmp_path / "adapter.safetensors").write_text("weights")
    run = client.create_run(client.get_experiment_by_name("pii-finetune").experiment_id)
    client.log_artifact(run.info.run_id, str(tmp_path / "adapter.safetensors"), "model")
    source = f"{run.info.artifact_uri}/model"

    def version(name):
        return str(client.create_model_version(name, source, run.info.run_id, await_creation_for=0).version)

    return [(version(SFT_MODEL), version(DPO_MODEL)) for _ in range(2)]


def in_production(client):
    return read_state(client, SFT_MODEL).production, read_state(client, DPO_MODEL).production


def test_the_worker_registers_and_promotes_and_the_reader_loads_but_cannot_promote(log_in, versions, tmp_path):
    first, second = versions
    promote_pair(*first, by="worker")
    client = log_in("reader")
    assert in_production(client) == ((first[0],), (first[1],))
    loaded = Path(mlflow.artifacts.download_artifacts("models:/pii-dpo/Production", dst_path=str(tmp_path)))
    assert (loaded / "adapter.safetensors").read_text() == "weights"
    with pytest.raises(PromotionLockedError, match="cannot be kept in MLflow's registry"):
        promote_pair(*second, by="reader")
    for write in (
        lambda: client.transition_model_version_stage(DPO_MODEL, second[1], "Production"),
        lambda: client.set_registered_model_alias(DPO_MODEL, "champion", second[1]),
        lambda: client.create_model_version(LOCK_MODEL, "s3://no-model/ticket"),
        lambda: client.create_run(client.get_experiment_by_name("pii-finetune").experiment_id),
    ):
        with pytest.raises(MlflowException, match="Permission denied"):
            write()
    assert in_production(log_in("worker")) == ((first[0],), (first[1],))


def test_another_promotes_with_the_grants_that_the_documentation_names(server, log_in, versions):
    log_in("admin")
    auth = get_app_client("basic-auth", tracking_uri=server.uri)
    auth.create_user("ada", PASSWORDS["ada"])
    experiment = MlflowClient().get_experiment_by_name("pii-finetune").experiment_id
    auth.grant_user_permission("ada", "experiment", experiment, "READ")
    auth.grant_user_permission("ada", "registered_model", SFT_MODEL, "EDIT")
    auth.grant_user_permission("ada", "registered_model", DPO_MODEL, "EDIT")

    first, second = versions
    client = log_in("ada")
    with pytest.raises(PromotionLockedError, match="cannot be kept in MLflow's registry"):
        promote_pair(*first, by="ada")

    log_in("admin")
    auth.grant_user_permission("ada", "registered_model", LOCK_MODEL, "MANAGE")
    log_in("ada")
    promote_pair(*first, by="ada")
    assert in_production(client) == ((first[0],), (first[1],))
    client = log_in("worker")  # each passes over what the other left
    promote_pair(*second, by="worker")
    assert in_production(client) == ((second[0],), (second[1],))
    assert client.search_model_versions(f"name='{LOCK_MODEL}'") == []


def test_each_who_promotes_passes_over_a_ticket_of_another_that_died(log_in, versions):
    with ticket_lock("the worker, which dies", 5.0):
        pass
    dead = log_in("admin").create_model_version(LOCK_MODEL, "s3://no-model/ticket", description="dead")
    client = log_in("worker")
    with ticket_lock("the next", 60.0, 1.0) as confirm:
        confirm()
    assert str(dead.version) not in [str(each.version) for each in client.search_model_versions(f"name='{LOCK_MODEL}'")]


def test_the_worker_deletes_neither_models_nor_experiment_and_lends_nothing_on(server, log_in):
    client = log_in("worker")
    auth = get_app_client("basic-auth", tracking_uri=server.uri)
    experiment = client.get_experiment_by_name("pii-finetune").experiment_id
    for write in (
        *(lambda model=model: client.delete_registered_model(model) for model in PAIR),
        lambda: client.delete_experiment(experiment),
        lambda: auth.grant_user_permission("reader", "registered_model", DPO_MODEL, "EDIT"),
        lambda: auth.create_user("mallory", "long-enough-password"),
    ):
        with pytest.raises(MlflowException, match="Permission denied"):
            write()


def test_made_again_nothing_changes(server):
    before = server.contents()
    code, said = server.make_users()
    assert code == 0, said
    assert server.contents() == before


def test_what_the_worker_owned_before_is_only_lent_to_it_afterwards(server, log_in):
    log_in("admin")
    auth = get_app_client("basic-auth", tracking_uri=server.uri)
    before = server.contents()
    auth.revoke_user_permission("worker", "registered_model", DPO_MODEL)
    auth.grant_user_permission("worker", "registered_model", DPO_MODEL, "MANAGE")
    assert server.contents() != before
    assert server.make_users()[0] == 0
    assert server.contents() == before


def test_models_of_a_variant_are_made_for_all_before_its_first_run(server, log_in, tmp_path):
    client = log_in("worker")
    with pytest.raises(
        MissingModelError, match="worker may not see a model 'pii-dpo-fr', if there is one; .* MLFLOW_VARIANTS"
    ):
        production_version("pii-dpo-fr")
    code, said = server.make_users(MLFLOW_VARIANTS="fr hr-2026")
    assert code == 0, said

    client = log_in("worker")
    assert production_version("pii-dpo-fr") is None
    (tmp_path / "adapter.safetensors").write_text("weights of fr")
    run = client.create_run(client.get_experiment_by_name("pii-finetune").experiment_id)
    client.log_artifact(run.info.run_id, str(tmp_path / "adapter.safetensors"), "model")
    pair = model_names("fr")
    for name in pair:
        client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id, await_creation_for=0)
        with pytest.raises(MlflowException, match="Permission denied"):
            client.delete_registered_model(name)
    promote_pair("1", "1", pair=pair)

    log_in("reader")
    assert set(paired_models()) == {*PAIR, *pair, *model_names("hr-2026")}
    loaded = Path(mlflow.artifacts.download_artifacts("models:/pii-dpo-fr/Production", dst_path=str(tmp_path / "fr")))
    assert (loaded / "adapter.safetensors").read_text() == "weights of fr"

    before = server.contents()  # a deploy that names them no more takes nothing away, nor does one that does
    for variants in ("", "fr"):
        assert server.make_users(MLFLOW_VARIANTS=variants)[0] == 0
        assert server.contents() == before


def test_models_that_a_run_made_itself_are_lent_as_the_others_by_the_next_deploy(server, log_in):
    client = log_in("worker")
    for name in model_names("own"):
        client.create_registered_model(name)
    assert server.make_users()[0] == 0
    for name in model_names("own"):
        assert log_in("reader").get_registered_model(name).name == name
        with pytest.raises(MlflowException, match="Permission denied"):
            log_in("worker").delete_registered_model(name)


def test_a_variant_that_cannot_be_part_of_a_name_is_told_in_a_line(server):
    code, said = server.make_users(MLFLOW_VARIANTS="fr HR a/b")
    assert (code, said.count("\n")) == (2, 1)
    assert "MLFLOW_VARIANTS: 'HR', 'a/b' cannot be part of a model's name" in said


def test_the_password_of_the_administrator_is_changed_once_and_changing_it_again_does_no_harm(server):
    another = "another-and-nobody-else's"
    for old, new in ((PASSWORDS["admin"], another), (another, PASSWORDS["admin"])):
        for _ in range(2):
            code, said = server.make_users(MLFLOW_ADMIN_OLD_PASSWORD=old, MLFLOW_ADMIN_PASSWORD=new)
            assert code == 0, said
        assert server.make_users(MLFLOW_ADMIN_PASSWORD=old)[0] == 1


def test_a_missing_password_and_a_wrong_one_are_told_in_a_line(server):
    code, said = server.make_users(MLFLOW_READER_PASSWORD="")
    assert (code, said.count("\n")) == (2, 1)
    assert "MLFLOW_READER_PASSWORD: not set" in said
    code, said = server.make_users(MLFLOW_ADMIN_PASSWORD="another-than-the-server's")
    assert code == 1
    assert "Traceback" not in said
