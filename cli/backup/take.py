"""`make backup`: a folder with a dump of each database and the artifacts, whole or not there."""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from cli.backup import databases
from cli.backup.containers import Containers, capture, find_compose, write_output
from cli.backup.manifest import FORMAT, MANIFEST, BackupError, Manifest, describe, write_manifest

ARTIFACTS = "artifacts.tar"
_PREFIX = "pii-finetune-"
_PARTIAL = ".partial-"
# A file that grows while it is read belongs to a run that the database, dumped before, does not know as finished.
_TAR = 'tar --create --file=- --warning=no-file-changed --directory="$1" . || [ $? -eq 1 ]'


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a backup and say where it is."""
    parser = argparse.ArgumentParser(prog="make backup", description=__doc__)
    parser.add_argument("--to", type=Path, default=Path("backups"), help="folder of backups (default: %(default)s)")
    parser.add_argument(
        "--keep", type=_at_least_one, metavar="N", help="then remove all but the newest N backups there"
    )
    options = parser.parse_args(arguments)
    os.umask(0o077)  # it holds labels, and hashes of passwords
    try:
        made = back_up(Containers(find_compose()), options.to)
        print(f"{made}: {sum(path.stat().st_size for path in made.iterdir()):,} bytes; `make restore FROM={made}`")
        for old in prune(options.to, options.keep):
            print(f"{old}: removed, KEEP={options.keep}")
    except BackupError as error:
        print(f"make backup: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"make backup: {error.filename or options.to}: {error.strerror}; nothing was kept", file=sys.stderr)
        return 1
    return 0


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give the number of backups to keep, at least 1")
    return int(text)


def back_up(containers: Containers, to: Path) -> Path:
    """Write a backup below `to` and return its folder.

    MLflow's clients write artifacts before the database hears of a finished run or a version, and nothing here deletes
    any. So with the databases first and the artifacts after them, all that the databases know is among the artifacts,
    and no server has to stop.
    """
    postgres, mlflow = containers.inside("postgres"), containers.inside("mlflow")
    if databases.are_shut(postgres):
        raise BackupError("a restore was broken off here; repeat it with FORCE=1 first: there is nothing whole to save")
    place = capture([*mlflow, "printenv", "MLFLOW_ARTIFACTS_DESTINATION"])
    here = json.loads(capture([*mlflow, "python", "-m", "cli.backup.schemas"]).splitlines()[-1])
    to.mkdir(parents=True, exist_ok=True)
    needed = sum(databases.size(postgres, name) for name in databases.SCHEMA_TABLES)
    if is_local := place.startswith("/"):
        capture([*mlflow, "mkdir", "-p", place])  # the first run makes it
        needed += int(capture([*mlflow, "du", "--summarize", "--bytes", place]).split()[0])
    if needed > (free := shutil.disk_usage(to).free):
        raise BackupError(f"{to}: {free:,} bytes are free, and up to {needed:,} are needed; make room, or give TO=")

    now = datetime.now(UTC)
    name = f"{_PREFIX}{now:%Y%m%dT%H%M%SZ}"
    partial = to / f"{_PARTIAL}{name}"
    partial.mkdir()
    try:
        schemas = {database: databases.schema(postgres, database) for database in databases.SCHEMA_TABLES}
        for database in databases.SCHEMA_TABLES:
            databases.dump(postgres, database, partial / f"{database}.dump")
        if is_local:
            write_output([*mlflow, "sh", "-c", _TAR, "tar", place], partial / ARTIFACTS)
        parts = {path.name: describe(path) for path in sorted(partial.iterdir())}
        artifacts = ARTIFACTS if is_local else place
        moment = now.isoformat(timespec="seconds")
        write_manifest(partial, Manifest(FORMAT, moment, here["versions"], schemas, artifacts, parts))
        _flush(partial)
        return partial.rename(to / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _flush(folder: Path) -> None:
    """Have everything on the disk before the name says that it is whole."""
    for path in (*folder.iterdir(), folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def prune(to: Path, keep: int | None) -> list[Path]:
    """Remove all but the newest `keep` backups and return what was removed; anything else in the folder stays."""
    if keep is None:
        return []
    whole = sorted(path for path in to.glob(f"{_PREFIX}*") if (path / MANIFEST).is_file())
    for path in whole[:-keep]:
        shutil.rmtree(path)
    return whole[:-keep]


if __name__ == "__main__":
    sys.exit(main())
