"""Every secret of the running stack changed at once, as docs/stack.md tells it: the old ones open nothing any more."""

from datetime import UTC, datetime

import httpx
import pytest

pytestmark = [pytest.mark.stack, pytest.mark.timeout(3600)]

INIT = "/docker-entrypoint-initdb.d/postgres-init.sh"
# Passwords come by standard input: what is in an argument, every process can read.
LOG_IN = """
import sys, psycopg2
for line in sys.stdin.read().split():
    role, database, password = line.split(",")
    try:
        psycopg2.connect(host="postgres", user=role, dbname=database, password=password, connect_timeout=30).close()
        print(role, "opened")
    except psycopg2.OperationalError as error:
        print(role, "shut" if "password authentication failed" in str(error) else error)
"""
WRITE = """
import mlflow
mlflow.set_experiment("pii-finetune")
with mlflow.start_run():
    mlflow.log_metric("f1", 0.5)
print("written")
"""


@pytest.fixture(scope="module")
def rotated(stack):
    """Returns the secrets of before."""
    before = stack.change_secrets()
    stack.call("up", "--detach", "postgres")
    stack.wait(lambda: can_ask_postgres(stack), "PostgreSQL did not come back")
    stack.call("exec", "-T", "postgres", "bash", INIT)
    stack.call("up", "--detach", MLFLOW_ADMIN_OLD_PASSWORD=before["MLFLOW_ADMIN_PASSWORD"])
    stack.wait(stack.is_ready, "the servers did not answer to the new secrets")
    return before


def can_ask_postgres(stack):
    try:
        return stack.inside("postgres", "pg_isready", "--username", "postgres", "--host", "127.0.0.1")
    except AssertionError:
        return False


def log_in_to_databases(stack, secrets):
    roles = (
        ("postgres", "postgres", "POSTGRES"),
        ("prefect", "prefect", "PREFECT_DB"),
        ("mlflow", "mlflow", "MLFLOW_DB"),
    )
    given = "\n".join(f"{role},{database},{secrets[f'{name}_PASSWORD']}" for role, database, name in roles)
    told = stack.run_engine("exec", "--interactive", stack.container("prefect"), "python", "-c", LOG_IN, stdin=given)
    return dict(line.split(maxsplit=1) for line in told.splitlines())


def test_the_databases_open_to_the_new_passwords_alone(stack, rotated):
    roles = ("postgres", "prefect", "mlflow")
    assert log_in_to_databases(stack, stack.secrets) == dict.fromkeys(roles, "opened")
    assert log_in_to_databases(stack, rotated) == dict.fromkeys(roles, "shut")


def test_prefect_opens_to_the_new_password_alone(stack, rotated):
    def status(secrets):
        auth = ("pii", secrets["PREFECT_PASSWORD"])
        return httpx.post(f"{stack.prefect}/api/deployments/filter", json={}, auth=auth, timeout=60).status_code

    assert (status(stack.secrets), status(rotated)) == (200, 401)


@pytest.mark.parametrize("user", ["admin", "worker", "reader"])
def test_mlflow_opens_to_the_new_passwords_alone(stack, rotated, user):
    def statuses(secrets):
        auth = (user, secrets[f"MLFLOW_{user.upper()}_PASSWORD"])
        # Often enough that every process of the server is asked.
        return {httpx.get(stack.experiment_url, auth=auth, timeout=60).status_code for _ in range(8)}

    assert (statuses(stack.secrets), statuses(rotated)) == ({200}, {401})


def test_mlflow_signs_its_forms_with_the_new_key(stack, rotated):
    assert (
        stack.inside("mlflow", "printenv", "MLFLOW_FLASK_SERVER_SECRET_KEY").strip()
        == stack.secrets["MLFLOW_SECRET_KEY"]
    )


def test_no_container_holds_an_old_secret_but_the_one_that_changed_the_administrators(stack, rotated):
    for service in ("postgres", "prefect", "mlflow", "worker", "proxy"):
        seen = stack.inside(service, "env")
        assert not [name for name, value in rotated.items() if name.endswith(("PASSWORD", "KEY")) and value in seen]


def test_the_worker_is_heard_by_prefect_and_writes_to_mlflow_with_the_new_ones(stack, rotated):
    since = datetime.now(UTC)

    def is_heard():
        url = f"{stack.prefect}/api/work_pools/gpu/workers/filter"
        found = httpx.post(url, json={}, auth=stack.prefect_user, timeout=60)
        if not found.is_success:  # for some seconds names may lead nowhere after containers were made anew
            return False
        heard = [each["last_heartbeat_time"] for each in found.json() if each["last_heartbeat_time"]]
        return any(datetime.fromisoformat(each) > since for each in heard)

    stack.wait(is_heard, "no worker was heard", 300)
    assert stack.inside("worker", "python", "-c", WRITE).split()[-1] == "written"
