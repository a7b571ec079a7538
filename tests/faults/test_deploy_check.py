"""deploy-check against a real server: it says what deploying then does, and writes nothing."""

import os
import shutil
import subprocess
import sys

import httpx
import pytest
from servers import BIN, prefect_server

from pii_finetune.paths import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.faults]

AUTH = "admin:correct-horse-battery"
NAMES = tuple(f"pii-{name}/main" for name in ("finetune", "score", "watch", "resume", "sweep", "trial"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that wants credentials, and has nothing; yields a way to ask it and the settings to reach it."""
    folder = tmp_path_factory.mktemp("prefect")
    with prefect_server(folder, PREFECT_SERVER_API_AUTH_STRING=AUTH) as port:
        api = f"http://127.0.0.1:{port}/api"
        settings = {"PREFECT_API_URL": api, "PREFECT_API_AUTH_STRING": AUTH, "PREFECT_HOME": str(folder / "client")}
        with httpx.Client(base_url=api, auth=tuple(AUTH.split(":")), timeout=60) as client:
            yield client, settings


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project's flows, with a prefect.yaml that may be changed."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "flows").symlink_to(ROOT / "flows")
    shutil.copy(ROOT / "prefect.yaml", folder)
    return folder


def run(settings, folder, *command):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    inherited |= {"PYTHONPATH": str(ROOT), "PII_FINETUNE_ROOT": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(
        command, env=inherited | settings, cwd=folder, capture_output=True, text=True, check=False, timeout=540
    )


def deploy_check(server, folder):
    """Run it; return its exit code and what it says, having seen that the server holds what it held."""
    client, settings = server
    before = everything(client)
    done = run(settings, folder, sys.executable, "-m", "cli.main", "deploy-check")
    assert everything(client) == before
    assert "Traceback" not in done.stderr, done.stderr
    assert AUTH.partition(":")[2] not in done.stdout + done.stderr
    return done.returncode, [line.split(maxsplit=1) for line in done.stdout.splitlines()], done.stdout


def everything(client):
    """All that deploying writes, with the times at which it was written."""
    kinds = (
        "flows",
        "deployments",
        "automations",
        "work_pools",
        "variables",
        "block_documents",
        "v2/concurrency_limits",
    )
    found = {kind: client.post(f"/{kind}/filter", json={}).raise_for_status().json() for kind in kinds}
    for deployment in found["deployments"]:  # scheduled runs come and go by the server's own doing
        deployment.pop("last_polled", None)
    return found


def test_deploying_is_foretold_from_an_empty_server_to_a_changed_file(server, project):
    _, settings = server
    code, _, told = deploy_check(server, project)
    assert code == 1
    assert "there is no work pool gpu on the server" in told

    run(settings, project, str(BIN / "prefect"), "work-pool", "create", "gpu", "--type", "process")
    code, lines, told = deploy_check(server, project)
    assert code == 0, told
    assert [rest.split()[0] for word, *rest in lines_of("new", lines) for rest in rest][:4] == list(NAMES)

    deployed = run(settings, project, str(BIN / "prefect"), "--no-prompt", "deploy", "--all")
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    assert run(settings, project, sys.executable, "-m", "cli.main", "automate").returncode == 0
    code, lines, told = deploy_check(server, project)
    assert (code, len(lines_of("same", lines))) == (0, len(NAMES) + 3), told

    file = project / "prefect.yaml"
    text = file.read_text()
    for old, new in (
        ('cron: "0 3 * * 0"', 'cron: "0 4 * * 0"'),
        ("interval: 900", "interval: 600"),
        ("stable_seconds: 10", "stable_seconds: 20"),
        ("enabled: true", "enabled: false"),
        ("name: gpu\n", "name: gpu\n      job_variables:\n        comand: typo\n"),
    ):
        assert old in text
        text = text.replace(old, new)
    file.write_text(text[: text.index("  - name: main\n    entrypoint: flows/resume.py")])
    code, lines, told = deploy_check(server, project)
    for expected in (
        "schedules[0].schedule.cron: 0 3 * * 0 -> 0 4 * * 0",
        "schedules[0].schedule.interval: 900.0 -> 600.0",
        "parameters.stable_seconds: 10 -> 20",
        "trigger main__automation_1: enabled: true -> false",
        "job_variables.comand: null -> typo",
        "pool gpu has no such job variable and ignores it (did you mean command?)",
    ):
        assert expected in told
    assert code == 1  # for the job variable; what differs is no fault
    assert [rest[0].split()[0] for _, *rest in lines_of("left", lines)] == ["pii-resume/main"]

    # What was foretold is what deploying does.
    assert run(settings, project, str(BIN / "prefect"), "--no-prompt", "deploy", "--all").returncode == 0
    code, lines, told = deploy_check(server, project)
    assert not lines_of("change", lines), told


def lines_of(word, lines):
    return [line for line in lines if line and line[0] == word]


def test_with_wrong_credentials_nothing_is_foretold(server, project):
    _, settings = server
    done = run(
        settings | {"PREFECT_API_AUTH_STRING": "admin:x"}, project, sys.executable, "-m", "cli.main", "deploy-check"
    )
    assert done.returncode == 1
    assert "does not accept the credentials" in done.stdout


def test_the_doctor_finds_what_deploying_would_change(server, project):
    """After the test above: one deployment is as here, others were deployed from a changed file."""
    _, settings = server
    done = run(settings, ROOT, sys.executable, "-m", "cli.main", "doctor")
    assert "not as here: pii-finetune/main (schedules[0].schedule.cron" in done.stdout
    assert "make deploy-check shows what differs" in done.stdout
