"""`make backup`, all volumes destroyed, `make restore`: by the real containers."""

import os
import subprocess
import sys

import httpx
import pytest

ROOT_MODULE = [sys.executable, "-m"]
pytestmark = [pytest.mark.stack, pytest.mark.timeout(3600)]  # the images are built in the first of them

STORE = """
import mlflow, pathlib
from mlflow import MlflowClient
mlflow.set_experiment("pii-finetune")
with mlflow.start_run() as run:
    mlflow.log_metric("f1", 0.5)
    pathlib.Path("/tmp/kept.txt").write_text("weights")
    mlflow.log_artifact("/tmp/kept.txt")
version = MlflowClient().create_model_version("pii-dpo", run.info.artifact_uri, run.info.run_id)
print(run.info.run_id)
"""
READ = """
import sys, mlflow
from mlflow import MlflowClient
run = MlflowClient().get_run(sys.argv[1])
path = mlflow.artifacts.download_artifacts(run_id=sys.argv[1], artifact_path="kept.txt", dst_path="/tmp")
versions = MlflowClient().search_model_versions("name='pii-dpo'")
print(run.data.metrics["f1"], open(path).read(), [v.version for v in versions if v.run_id == sys.argv[1]] != [])
"""


def call(stack, module, *arguments):
    """Run the command as make does, on this stack instead of the machine's own."""
    compose = [*stack._compose, "--project-name", stack.project, "--env-file", str(stack._env_file)]
    done = subprocess.run(
        [*ROOT_MODULE, module, *arguments],
        env={**os.environ, "COMPOSE": " ".join(compose)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_what_was_there_is_there_again_though_volumes_and_passwords_are_others(stack, tmp_path):
    run_id = stack.inside("worker", "python", "-c", STORE).split()[-1]

    code, told = call(stack, "cli.backup.take", "--to", str(tmp_path / "backups"))
    assert code == 0, told
    [made] = (tmp_path / "backups").iterdir()
    for secret in ("POSTGRES_PASSWORD", "PREFECT_PASSWORD", "MLFLOW_ADMIN_PASSWORD", "MLFLOW_SECRET_KEY"):
        assert not any(stack.secrets[secret].encode() in path.read_bytes() for path in made.iterdir())

    code, told = call(stack, "cli.backup.restore", str(made))
    assert code == 2
    assert "FORCE=1" in told

    stack.down("--volumes")
    before = stack.change_secrets()  # as on a new machine, where `make secrets` was called
    code, told = call(stack, "cli.backup.restore", str(made))
    assert code == 0, told
    stack.wait(stack.is_ready, "the restored servers did not answer")
    assert stack.inside("worker", "python", "-c", READ, run_id).split()[-3:] == ["0.5", "weights", "True"]
    for user in ("admin", "worker", "reader"):
        new, old = (each[f"MLFLOW_{user.upper()}_PASSWORD"] for each in (stack.secrets, before))
        statuses = [httpx.get(stack.experiment_url, auth=(user, each), timeout=60).status_code for each in (new, old)]
        assert statuses == [200, 401], user
