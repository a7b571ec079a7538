import json
import os
import subprocess
import sys

import pytest

from cli.backup import containers, restore, take
from cli.backup.containers import ROOT
from cli.backup.manifest import MANIFEST, BackupError, Manifest, describe, read_manifest, write_manifest


@pytest.fixture
def backup(tmp_path):
    folder = tmp_path / "a backup"
    folder.mkdir()
    (folder / "mlflow.dump").write_bytes(b"PGDMP")
    parts = {"mlflow.dump": describe(folder / "mlflow.dump")}
    versions, schemas = {"mlflow": "3.17.2"}, {"mlflow": {"alembic_version": "c0ffee"}}
    write_manifest(folder, Manifest(1, "2026-11-27T00:00:00+00:00", versions, schemas, "artifacts.tar", parts))
    return folder


def test_an_undamaged_backup_is_read(backup):
    assert read_manifest(backup).parts["mlflow.dump"].bytes == 5


def test_one_changed_byte_is_found(backup):
    (backup / "mlflow.dump").write_bytes(b"PGDMQ")
    with pytest.raises(BackupError, match=r"mlflow\.dump: is not what was saved"):
        read_manifest(backup)


def test_a_missing_part_is_found(backup):
    (backup / "mlflow.dump").unlink()
    with pytest.raises(BackupError, match=r"mlflow\.dump is missing"):
        read_manifest(backup)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 1, "parts": {"a": 3}}'])
def test_a_damaged_manifest_is_told_in_one_line(backup, text):
    (backup / MANIFEST).write_text(text)
    with pytest.raises(BackupError, match="is damaged; restore another backup$"):
        read_manifest(backup)


def test_a_later_format_is_refused(backup):
    (backup / MANIFEST).write_text(json.dumps({"format": 2}))
    with pytest.raises(BackupError, match="is of format 2"):
        read_manifest(backup)


def test_a_part_outside_the_folder_is_no_part(backup):
    manifest = json.loads((backup / MANIFEST).read_text())
    manifest["parts"] = {"../other": manifest["parts"]["mlflow.dump"]}
    (backup.parent / "other").write_bytes(b"PGDMP")
    (backup / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BackupError, match="missing"):
        read_manifest(backup)


def test_restore_tells_of_a_folder_that_is_not_there_and_of_one_that_is_no_backup(tmp_path, capsys):
    assert restore.main([str(tmp_path / "nowhere")]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert restore.main([str(tmp_path)]) == 2
    assert f"is no backup, it has no {MANIFEST}" in capsys.readouterr().err


def test_without_an_engine_a_backup_ends_with_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("COMPOSE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert take.main(["--to", str(tmp_path / "backups")]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "no container engine answers: start docker" in line
    assert not (tmp_path / "backups").exists()


def test_what_a_command_says_of_its_failure_is_passed_on(monkeypatch):
    monkeypatch.setenv("COMPOSE", "sh -c")
    assert containers.find_compose() == ["sh", "-c"]
    with pytest.raises(BackupError, match="failed: service postgres is not running"):
        containers.capture(["sh", "-c", "echo service postgres is not running >&2; exit 1"])


@pytest.mark.parametrize("keep", ["0", "-1", "many"])
def test_keeping_no_backup_is_bad_usage(keep):
    with pytest.raises(SystemExit):
        take.main(["--keep", keep])


def test_a_backup_needs_no_package_but_python(tmp_path):
    for module in ("cli.backup.take", "cli.backup.restore"):
        done = subprocess.run(
            [sys.executable, "-S", "-E", "-m", module, "--help"], cwd=ROOT, capture_output=True, check=False,
            env={"PATH": os.environ["PATH"]},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr


def test_only_whole_backups_are_counted_and_removed(tmp_path):
    for day in (1, 2, 3):
        folder = tmp_path / f"pii-finetune-2026010{day}T000000Z"
        folder.mkdir()
        if day != 2:
            (folder / MANIFEST).touch()
    (tmp_path / "others").mkdir()
    assert [path.name for path in take.prune(tmp_path, 1)] == ["pii-finetune-20260101T000000Z"]
    assert len(list(tmp_path.iterdir())) == 3
