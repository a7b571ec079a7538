"""`make restore`: a backup in the place of what the containers hold."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cli.backup import databases
from cli.backup.containers import Containers, capture, find_compose
from cli.backup.manifest import BackupError, Manifest, read_manifest
from cli.backup.take import ARTIFACTS

_START_SECONDS = 120
# Beside the artifacts in use, on the same volume: then a rename, or nothing, takes their place.
_UNPACK = 'rm -rf "$1.restoring" && mkdir -p "$1.restoring" && tar --extract --file=- --directory="$1.restoring"'
_SWAP = 'rm -rf "$1.old" && { [ ! -e "$1" ] || mv "$1" "$1.old"; } && mv "$1.restoring" "$1" && rm -rf "$1.old"'


def main(arguments: Sequence[str] | None = None) -> int:
    """Restore a backup and start everything."""
    parser = argparse.ArgumentParser(prog="make restore", description=__doc__)
    parser.add_argument("source", type=Path, metavar="FOLDER", help="a folder that `make backup` made")
    parser.add_argument("--force", action="store_true", help="even where there are runs already, which are then gone")
    options = parser.parse_args(arguments)
    try:
        manifest = read_manifest(options.source)
        restore(Containers(find_compose()), options.source, manifest, force=options.force)
    except BackupError as error:
        print(f"make restore: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"make restore: {error.filename or options.source}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"restored what {options.source} held at {manifest.made_at}; the servers are starting")
    return 0


def restore(containers: Containers, source: Path, manifest: Manifest, *, force: bool) -> None:
    """Put a backup, whose manifest was read and found true, in the place of what is there.

    Up to the moment when everything is restored beside what is in use, a failure changes nothing. From then on the
    databases let no server in until all is in place: killed in between, nothing that starts looks whole.

    Raises:
        BackupError: it is refused, or failed; the message says why.
    """
    postgres, mlflow = containers.inside("postgres"), containers.aside("mlflow")
    containers.manage("up", "--detach", "postgres")
    _wait_for(postgres)
    was_broken_off = databases.are_shut(postgres)
    if not force:
        if was_broken_off:
            raise BackupError(
                "a restore was broken off here, and the servers are shut until one is whole: give FORCE=1"
            )
        require_unused(postgres)
    here = json.loads(capture([*mlflow, "python", "-m", "cli.backup.schemas"]).splitlines()[-1])
    made_by = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    databases.require_known({**manifest.schemas}, here["known"], made_by)  # type: ignore[arg-type]
    place = capture([*mlflow, "printenv", "MLFLOW_ARTIFACTS_DESTINATION"]).splitlines()[-1]
    if (manifest.artifacts == ARTIFACTS) != place.startswith("/"):
        raise BackupError(
            f"the backup's artifacts are in {manifest.artifacts}, and these containers keep theirs in {place}: set "
            "ARTIFACTS in .env as it was"
        )

    containers.manage("stop", "worker", "deploy", "mlflow", "prefect")
    try:
        for database in databases.SCHEMA_TABLES:
            databases.load_aside(postgres, database, source / f"{database}.dump")
        databases.free_slots(postgres, "prefect")
        if manifest.artifacts == ARTIFACTS:
            with (source / ARTIFACTS).open("rb") as file:
                capture([*mlflow, "sh", "-c", _UNPACK, "sh", place], file)
    except BackupError as error:
        databases.forget_aside(postgres)
        if was_broken_off:
            raise BackupError(f"{error}; the servers stay shut, since the restore before was broken off") from None
        containers.manage("up", "--detach")
        raise BackupError(f"{error}; what was there is in use again, unchanged") from None
    try:
        _take_into_use(containers, place if manifest.artifacts == ARTIFACTS else None)
    except BackupError as error:
        raise BackupError(
            f"{error}; the servers are shut until it is whole: mend that, and repeat with FORCE=1"
        ) from None
    containers.manage("up", "--detach")


def _take_into_use(containers: Containers, artifacts: str | None) -> None:
    """Put what was restored beside in the place of what is in use, which no server sees half done."""
    postgres, mlflow = containers.inside("postgres"), containers.aside("mlflow")
    databases.shut(postgres)
    for database in databases.SCHEMA_TABLES:
        databases.take_into_use(postgres, database)
    if artifacts is not None:
        capture([*mlflow, "sh", "-c", _SWAP, "sh", artifacts])
    # Leases of runs that this server never started would give back slots that others hold.
    capture([*containers.aside("prefect"), "rm", "-rf", "/var/lib/prefect/concurrency_leases"])
    databases.open_to(
        postgres, "mlflow"
    )  # to migrate; Prefect, which all else waits for, stays shut until that is done
    capture([*mlflow, "python", "-m", "cli.backup.settle"])
    databases.open_to(postgres, "prefect")


def require_unused(postgres: Sequence[str]) -> None:
    """Refuse to put a backup over runs.

    Raises:
        BackupError: there are some.
    """
    runs = {database: databases.num_runs(postgres, database) for database in databases.SCHEMA_TABLES}
    if any(runs.values()):
        raise BackupError(
            f"there are {runs['prefect']} flow runs in Prefect and {runs['mlflow']} runs in MLflow already, which "
            "would be gone: `make backup` them first, then give FORCE=1"
        )


def _wait_for(postgres: Sequence[str]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:  # by TCP: while a new volume is prepared, the server listens on its socket alone
            capture([*postgres, "pg_isready", "--username", "postgres", "--host", "127.0.0.1"])
        except BackupError:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)
        else:
            return


if __name__ == "__main__":
    sys.exit(main())
