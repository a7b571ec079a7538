"""A backup and its restore by a real PostgreSQL, without containers: only starting and stopping them is left out."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import psycopg2
import pytest
from postgres import find_binaries, postgres_server

from cli.backup import databases, restore, take
from cli.backup.containers import Containers, capture
from cli.backup.manifest import MANIFEST, BackupError, read_manifest
from cli.backup.schemas import known_schemas
from pii_finetune.paths import ROOT

BINARIES = find_binaries()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(BINARIES is None, reason="no PostgreSQL on this machine")]


class Host(Containers):
    """The services as programs of this machine; what is started and stopped is written down."""

    def __init__(self, postgres, settings):
        super().__init__([])
        self._prefixes = {"postgres": postgres, "mlflow": settings, "prefect": settings}
        self.managed = []

    def inside(self, service):
        return ["env", *self._prefixes[service]]

    aside = inside

    def manage(self, *arguments):
        self.managed.append(" ".join(arguments))


@pytest.fixture(scope="module")
def server():
    assert BINARIES is not None
    with postgres_server(BINARIES) as running:
        yield running


@pytest.fixture(scope="module")
def known():
    return known_schemas()


@pytest.fixture
def postgres(server):
    """What goes before a program of PostgreSQL; both databases as a first start makes them."""
    port = server.address.rpartition(":")[2]
    prefix = [f"PATH={BINARIES}:/usr/bin:/bin", "PGHOST=127.0.0.1", f"PGPORT={port}"]
    command = ["env", *prefix]
    for name in ("prefect", "mlflow"):
        databases.query(command, "postgres", f"DROP DATABASE IF EXISTS {name}", f"DROP ROLE IF EXISTS {name}")
        databases.query(command, "postgres", f"CREATE ROLE {name} LOGIN", f"CREATE DATABASE {name} OWNER {name}")
    return prefix


@pytest.fixture
def host(postgres, known, tmp_path):
    """An installation with a run in each database, a slot that is held, and an artifact."""
    command = ["env", *postgres]
    for name, runs in (("prefect", "flow_run"), ("mlflow", "runs")):
        tables = [f"CREATE TABLE {runs} (id text)", f"INSERT INTO {runs} VALUES ('the run')"]
        for table, revisions in known[name].items():
            tables += [f"CREATE TABLE {table} (version_num text)", f"INSERT INTO {table} VALUES ('{revisions[0]}')"]
        databases.query(command, name, f"SET ROLE {name}", *tables)
    slots = "CREATE TABLE concurrency_limit_v2 (active_slots integer)"
    databases.query(command, "prefect", "SET ROLE prefect", slots, "INSERT INTO concurrency_limit_v2 VALUES (1)")
    artifacts = tmp_path / "volume" / "artifacts"
    artifacts.mkdir(parents=True)
    (artifacts / "adapter.safetensors").write_bytes(b"weights")
    # What the image's python says of its versions; all else that it is asked for needs a whole MLflow database.
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    versions = {name: version(name) for name in known}
    (python.parent / "schemas").write_text(json.dumps({"versions": versions, "known": known}))
    python.write_text('#!/bin/sh\n[ "$2" = cli.backup.settle ] || cat "${0%/*}/schemas"\n')
    python.chmod(0o755)
    return Host(postgres, [f"PATH={python.parent}:/usr/bin:/bin", f"MLFLOW_ARTIFACTS_DESTINATION={artifacts}"])


def artifact_of(tmp_path):
    return tmp_path / "volume" / "artifacts" / "adapter.safetensors"


def runs_of(host):
    postgres = host.inside("postgres")
    return databases.query(postgres, "prefect", "TABLE flow_run"), databases.query(postgres, "mlflow", "TABLE runs")


def test_what_was_destroyed_after_a_backup_is_restored(host, tmp_path):
    made = take.back_up(host, tmp_path / "backups")
    postgres = host.inside("postgres")
    databases.query(postgres, "prefect", "DROP TABLE flow_run")
    databases.query(postgres, "mlflow", "UPDATE runs SET id = 'another'", "DROP TABLE alembic_version")
    artifact_of(tmp_path).unlink()
    (artifact_of(tmp_path).parent / "later").touch()

    restore.restore(host, made, read_manifest(made), force=True)

    assert runs_of(host) == ("the run", "the run")
    assert [path.name for path in artifact_of(tmp_path).parent.iterdir()] == ["adapter.safetensors"]
    assert artifact_of(tmp_path).read_bytes() == b"weights"
    assert host.managed == ["up --detach postgres", "stop worker deploy mlflow prefect", "up --detach"]
    owners = "SELECT datname || ' ' || pg_get_userbyid(datdba) FROM pg_database WHERE datname ~ 'prefect|mlflow'"
    assert sorted(databases.query(postgres, "postgres", owners).split("\n")) == ["mlflow mlflow", "prefect prefect"]
    owner = databases.query(postgres, "mlflow", "SELECT tableowner FROM pg_tables WHERE tablename = 'runs'")
    assert owner == "mlflow"


def test_a_restored_server_holds_no_slot_for_a_run_of_before(host, tmp_path):
    made = take.back_up(host, tmp_path / "backups")
    restore.restore(host, made, read_manifest(made), force=True)
    assert databases.query(host.inside("postgres"), "prefect", "TABLE concurrency_limit_v2") == "0"


def test_a_backup_is_readable_to_its_owner_alone_and_names_its_versions(host, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(take, "Containers", lambda _: host)
    monkeypatch.setattr(take, "find_compose", list)
    for _ in range(2):
        assert take.main(["--to", str(tmp_path / "backups"), "--keep", "2"]) == 0
        newest = max((tmp_path / "backups").iterdir())
        newest.rename(newest.with_name(f"pii-finetune-2026010{len(list((tmp_path / 'backups').iterdir()))}T000000Z"))
    assert take.main(["--to", str(tmp_path / "backups"), "--keep", "2"]) == 0
    assert "pii-finetune-20260101T000000Z: removed" in capsys.readouterr().out
    left = sorted((tmp_path / "backups").iterdir())
    assert len(left) == 2
    made = left[-1]
    assert {path.name for path in made.iterdir()} == {"prefect.dump", "mlflow.dump", "artifacts.tar", MANIFEST}
    assert not made.stat().st_mode & 0o077
    assert not any(path.stat().st_mode & 0o077 for path in made.iterdir())
    manifest = json.loads((made / MANIFEST).read_text())
    assert set(manifest["versions"]) == {"prefect", "mlflow"}
    assert set(manifest["schemas"]["mlflow"]) == {"alembic_version", "alembic_version_auth"}


def test_an_installation_with_runs_is_not_overwritten_without_force(host, tmp_path):
    made = take.back_up(host, tmp_path / "backups")
    with pytest.raises(BackupError, match="1 flow runs in Prefect and 1 runs in MLflow already.*FORCE=1"):
        restore.restore(host, made, read_manifest(made), force=False)
    assert host.managed == ["up --detach postgres"]


def test_an_empty_installation_needs_no_force(host, tmp_path):
    made = take.back_up(host, tmp_path / "backups")
    postgres = host.inside("postgres")
    for name in ("prefect", "mlflow"):
        databases.query(postgres, "postgres", f"DROP DATABASE {name}", f"CREATE DATABASE {name} OWNER {name}")
    restore.restore(host, made, read_manifest(made), force=False)
    assert runs_of(host) == ("the run", "the run")


def test_a_backup_of_a_newer_schema_is_refused_before_anything_is_stopped(host, tmp_path):
    databases.query(host.inside("postgres"), "mlflow", "UPDATE alembic_version SET version_num = 'c0ffee'")
    made = take.back_up(host, tmp_path / "backups")
    with pytest.raises(BackupError, match="mlflow was made by a newer version .*schema c0ffee is unknown"):
        restore.restore(host, made, read_manifest(made), force=True)
    assert host.managed == ["up --detach postgres"]


def test_a_restore_that_fails_halfway_changes_nothing(host, tmp_path, monkeypatch):
    made = take.back_up(host, tmp_path / "backups")
    databases.query(host.inside("postgres"), "mlflow", "UPDATE runs SET id = 'newer'")
    monkeypatch.setattr(restore, "_UNPACK", "echo 'tar: No space left on device' >&2; exit 2; : ")
    with pytest.raises(BackupError, match="No space left on device; what was there is in use again, unchanged"):
        restore.restore(host, made, read_manifest(made), force=True)
    assert runs_of(host) == ("the run", "newer")
    assert host.managed[-1] == "up --detach"
    names = databases.query(host.inside("postgres"), "postgres", "SELECT datname FROM pg_database")
    assert "_restoring" not in names


# A program that stands still where a restore is to be killed: which one, of which service, when called with what.
HALTS = {
    "between the databases": ("psql", "postgres", "*'RENAME TO mlflow'*"),
    "between the databases and the artifacts": ("mv", "mlflow", "*"),
    "before it is settled": ("python", "mlflow", "*cli.backup.settle*"),
}


def compose_of(host, folder, halt=None):
    """A compose command that does in this machine's services what the real one does in containers."""
    there = folder / "halted"
    for service in ("postgres", "mlflow", "prefect"):
        first, *others = host.inside(service)[1:]
        (folder / service).mkdir(exist_ok=True)
        (folder / f"{service}.settings").write_text(
            shlex.join([first.replace("=", f"={folder / service}:", 1), *others])
        )
    if halt is not None:
        program, service, called_with = halt
        path = folder / service / program
        real = f'PATH=${{PATH#*:}} exec {program} "$@"'
        path.write_text(f'#!/bin/bash\n[[ " $* " == {called_with} ]] && touch {there} && sleep 600\n{real}\n')
        path.chmod(0o755)
    script = folder / "compose"
    script.write_text(
        "#!/bin/bash\n"
        "case $1 in exec) shift 2 ;; run) shift 4 ;; *) exit 0 ;; esac\n"
        f'settings=$(< {folder}/$1.settings) && shift && eval "exec env $settings \\"\\$@\\""\n'
    )
    script.chmod(0o755)
    return {**os.environ, "COMPOSE": str(script)}, there


def call(environment, module, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("moment", HALTS)
def test_after_a_restore_that_was_killed_nothing_starts_or_is_saved_until_one_is_whole(host, server, tmp_path, moment):
    made = take.back_up(host, tmp_path / "backups")
    databases.query(host.inside("postgres"), "mlflow", "UPDATE runs SET id = 'newer'")
    (artifact_of(tmp_path).parent / "newer").touch()
    program = tmp_path / "compose-of-this-test"
    program.mkdir()
    environment, halted = compose_of(host, program, HALTS[moment])
    command = [sys.executable, "-m", "cli.backup.restore", str(made), "--force"]
    restoring = subprocess.Popen(command, cwd=ROOT, env=environment, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while not halted.exists():
            assert restoring.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.killpg(restoring.pid, signal.SIGKILL)
        restoring.wait()

    address = f"{server.address.replace('postgres@', 'prefect@')}/prefect"
    with pytest.raises(psycopg2.OperationalError, match="not permitted to log in"):
        psycopg2.connect(address)
    waiting = {**os.environ, "WAIT_SECONDS": "0", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    door = ["bash", "docker/wait-for.sh", address, "--", "echo", "the server starts"]
    told = subprocess.run(door, cwd=ROOT, env=waiting, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout) == (1, "")
    assert "a restore was broken off" in told.stderr

    environment, _ = compose_of(host, program)
    (program / HALTS[moment][1] / HALTS[moment][0]).unlink()
    for module, *arguments in (("cli.backup.take", "--to", str(tmp_path / "more")), ("cli.backup.restore", str(made))):
        code, said = call(environment, module, *arguments)
        assert code == 2
        assert "a restore was broken off here" in said
        assert "FORCE=1" in said

    code, said = call(environment, "cli.backup.restore", str(made), "--force")
    assert code == 0, said
    psycopg2.connect(address).close()
    psycopg2.connect(address.replace("prefect", "mlflow")).close()
    assert runs_of(host) == ("the run", "the run")
    assert [path.name for path in artifact_of(tmp_path).parent.iterdir()] == ["adapter.safetensors"]


def test_a_restore_that_fails_after_one_was_killed_does_not_open_the_door(host, tmp_path, monkeypatch):
    made = take.back_up(host, tmp_path / "backups")
    databases.shut(host.inside("postgres"))
    monkeypatch.setattr(restore, "_UNPACK", "echo 'tar: No space left on device' >&2; exit 2; : ")
    with pytest.raises(BackupError, match="No space left on device; the servers stay shut"):
        restore.restore(host, made, read_manifest(made), force=True)
    assert databases.are_shut(host.inside("postgres"))
    assert host.managed[-1] != "up --detach"


def test_a_restore_that_fails_while_it_takes_things_into_use_says_what_to_do(host, tmp_path, monkeypatch):
    made = take.back_up(host, tmp_path / "backups")
    monkeypatch.setattr(restore, "_SWAP", "echo 'mv: Input/output error' >&2; exit 2; : ")
    with pytest.raises(BackupError, match="Input/output error; the servers are shut until .* repeat with FORCE=1"):
        restore.restore(host, made, read_manifest(made), force=True)
    assert databases.are_shut(host.inside("postgres"))


def test_a_backup_that_fails_leaves_nothing(host, tmp_path, monkeypatch):
    monkeypatch.setattr(take, "_TAR", "echo half; exit 2")
    with pytest.raises(BackupError, match="failed"):
        take.back_up(host, tmp_path / "backups")
    assert list((tmp_path / "backups").iterdir()) == []


def test_a_backup_is_not_begun_where_it_has_no_room(host, tmp_path, monkeypatch):
    monkeypatch.setattr(take.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(BackupError, match="10 bytes are free, and up to .* are needed; make room, or give TO="):
        take.back_up(host, tmp_path / "backups")


def test_artifacts_in_a_bucket_stay_there_and_are_named(host, postgres, tmp_path):
    settings = [part for part in host.inside("mlflow")[1:] if part.startswith("PATH=")]
    bucket = Host(postgres, [*settings, "MLFLOW_ARTIFACTS_DESTINATION=s3://ours/artifacts"])
    made = take.back_up(bucket, tmp_path / "backups")
    assert read_manifest(made).artifacts == "s3://ours/artifacts"
    with pytest.raises(BackupError, match="are in s3://ours/artifacts, and these containers keep theirs in /"):
        restore.restore(host, made, read_manifest(made), force=True)
    assert capture(["ls", str(made)]).split() == [MANIFEST, "mlflow.dump", "prefect.dump"]
