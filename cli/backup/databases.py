"""PostgreSQL's part of a backup. `postgres` is what to put before its programs, so that they run beside the server."""

import re
from collections.abc import Sequence
from pathlib import Path

from cli.backup.containers import capture, write_output
from cli.backup.manifest import BackupError

# Each database has the name of the role that owns it, and tables that say which schema it has.
SCHEMA_TABLES = {"prefect": ("alembic_version",), "mlflow": ("alembic_version", "alembic_version_auth")}
_RUNS = {"prefect": "flow_run", "mlflow": "runs"}
_ASIDE = "_restoring"


def query(postgres: Sequence[str], database: str, *statements: str) -> str:
    """Run statements as the administrator and return what they print, without decoration."""
    options = ["--username", "postgres", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]
    commands = [part for statement in statements for part in ("--command", statement)]
    return capture([*postgres, "psql", *options, "--set", "ON_ERROR_STOP=1", "--dbname", database, *commands])


def size(postgres: Sequence[str], database: str) -> int:
    """Return the bytes of a database; its dump, which is compressed, has fewer."""
    return int(query(postgres, "postgres", f"SELECT pg_database_size('{database}')"))


def schema(postgres: Sequence[str], database: str) -> dict[str, str]:
    """Return the revision of each part of a database's schema."""
    there = [table for table in SCHEMA_TABLES[database] if _exists(postgres, database, table)]
    return {table: query(postgres, database, f"TABLE {table}") for table in there}


def num_runs(postgres: Sequence[str], database: str) -> int:
    """Return how many runs a database knows; 0 for one that no server has used yet."""
    table = _RUNS[database]
    if not _exists(postgres, database, table):
        return 0
    return int(query(postgres, database, f"SELECT count(*) FROM {table}"))  # noqa: S608 names of ours


def _exists(postgres: Sequence[str], database: str, table: str) -> bool:
    return query(postgres, database, f"SELECT to_regclass('public.{table}') IS NOT NULL") == "t"


def dump(postgres: Sequence[str], database: str, target: Path) -> None:
    """Write a database as it is at one moment, whatever its server does meanwhile."""
    write_output([*postgres, "pg_dump", "--username", "postgres", "--format", "custom", database], target)
    with target.open("rb") as file:  # reads its table of contents
        capture([*postgres, "pg_restore", "--list"], file)


def load_aside(postgres: Sequence[str], database: str, source: Path) -> None:
    """Restore a dump into a database beside the one in use, whole or not at all."""
    new = database + _ASIDE
    query(
        postgres,
        "postgres",
        f"DROP DATABASE IF EXISTS {new}",
        f"CREATE DATABASE {new} OWNER {database} TEMPLATE template0 ENCODING 'UTF8'",
        f"REVOKE ALL ON DATABASE {new} FROM PUBLIC",
    )
    options = ["--single-transaction", "--no-owner", "--role", database, "--dbname", new]
    with source.open("rb") as file:
        capture([*postgres, "pg_restore", "--username", "postgres", *options], file)


def free_slots(postgres: Sequence[str], database: str) -> None:
    """Give back every concurrency slot: none of the runs that held them when the backup was made lives.

    Their leases, which would have run out, are not in the database but on the disk of the old server.
    """
    query(postgres, database + _ASIDE, "UPDATE concurrency_limit_v2 SET active_slots = 0")


def take_into_use(postgres: Sequence[str], database: str) -> None:
    """Put the restored database in the place of the one in use, whose clients are gone, or are sent away."""
    query(
        postgres,
        "postgres",
        f"DROP DATABASE IF EXISTS {database} WITH (FORCE)",
        f"ALTER DATABASE {database}{_ASIDE} RENAME TO {database}",
    )


def shut(postgres: Sequence[str]) -> None:
    """Let no server in until `open_to`: what it would find is not whole. Outlives whoever asked for it."""
    for database in SCHEMA_TABLES:
        query(postgres, "postgres", f"ALTER ROLE {database} NOLOGIN")


def open_to(postgres: Sequence[str], database: str) -> None:
    """Let a database's server in again."""
    query(postgres, "postgres", f"ALTER ROLE {database} LOGIN")


def are_shut(postgres: Sequence[str]) -> bool:
    """Whether a restore was broken off after it had begun to change what is in use."""
    names = ", ".join(f"'{database}'" for database in SCHEMA_TABLES)
    asked = f"SELECT count(*) FROM pg_roles WHERE NOT rolcanlogin AND rolname IN ({names})"  # noqa: S608 names of ours
    return query(postgres, "postgres", asked) != "0"


def forget_aside(postgres: Sequence[str]) -> None:
    """Remove what a restore that failed left beside the databases in use."""
    for database in SCHEMA_TABLES:
        query(postgres, "postgres", f"DROP DATABASE IF EXISTS {database}{_ASIDE}")


def require_known(schemas: dict[str, dict[str, str]], known: dict[str, dict[str, list[str]]], versions: str) -> None:
    """Refuse a backup that has a schema which the servers to be started do not know.

    Raises:
        BackupError: it was made by newer ones.
    """
    for database, tables in schemas.items():
        for table, revision in tables.items():
            if not re.fullmatch(r"\w+", revision) or revision not in known[database].get(table, []):
                raise BackupError(
                    f"the backup's database {database} was made by a newer version ({versions}) than these containers "
                    f"have: its schema {revision} is unknown to them; build them from that version, then restore"
                )
