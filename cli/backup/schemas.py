"""Inside the image: which versions its servers have, and every schema they know, as JSON."""

import json
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

from alembic.script import ScriptDirectory

from cli.backup.databases import SCHEMA_TABLES

_SCRIPTS = {
    ("prefect", "alembic_version"): ("server/database/_migrations", "server/database/_migrations/versions/postgresql"),
    ("mlflow", "alembic_version"): ("store/db_migrations", "store/db_migrations/versions"),
    ("mlflow", "alembic_version_auth"): ("server/auth/db/migrations", "server/auth/db/migrations/versions"),
}


def known_schemas() -> dict[str, dict[str, list[str]]]:
    """Return, for each database and table of Alembic, the revisions of the packages here."""
    found: dict[str, dict[str, list[str]]] = {database: {} for database in SCHEMA_TABLES}
    for (package, table), (scripts, versions) in _SCRIPTS.items():
        root = Path(str(files(package)))
        directory = ScriptDirectory(str(root / scripts), version_locations=[str(root / versions)])
        found[package][table] = [script.revision for script in directory.walk_revisions()]
    return found


if __name__ == "__main__":
    print(json.dumps({"versions": {name: version(name) for name in SCHEMA_TABLES}, "known": known_schemas()}))
