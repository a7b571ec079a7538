"""A PostgreSQL server of the tests' own: private folder, free port, gone afterwards."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2


def find_binaries() -> Path | None:
    """Return the folder of initdb and pg_ctl: on the PATH, or where Debian puts them."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((f for f in folders if (f / "initdb").exists() and (f / "pg_ctl").exists()), None)


def unprivileged_user() -> str | None:
    """Return the user PostgreSQL runs as where we are root, which it refuses; None if we are not."""
    if os.geteuid() != 0:
        return None
    users = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in users)


class PostgresServer:
    """A server that can be stopped as a crash stops it, and started again."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._user = unprivileged_user()
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))  # not below tmp_path, where another user may not go
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.address = f"postgresql://postgres@127.0.0.1:{self._port}"

    def make(self) -> None:
        self._call("initdb", "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync")

    def start(self) -> None:
        folder = self.folder
        options = f"-c listen_addresses=127.0.0.1 -c port={self._port} -c unix_socket_directories={folder} -c fsync=off"
        self._call("pg_ctl", "start", "--wait", "-l", str(folder / "log"), "-o", options)

    def stop_at_once(self) -> None:
        """Stop without a farewell to anybody; the next start recovers from the log."""
        self._call("pg_ctl", "stop", "--wait", "--mode=immediate")

    def _call(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._binaries / program), "-D", str(self.folder / "data"), *arguments],
            user=self._user,
            group=pwd.getpwnam(self._user).pw_gid if self._user else None,
            extra_groups=[] if self._user else None,
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            check=True,
            stdout=subprocess.DEVNULL,
        )


@contextmanager
def postgres_server(binaries: Path) -> Iterator[PostgresServer]:
    """Run a server; its address is the administrator's, without a database: postgresql://postgres@127.0.0.1:PORT."""
    server = PostgresServer(binaries)
    try:
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop_at_once()
    finally:
        shutil.rmtree(server.folder, ignore_errors=True)


def create_database(server: str, name: str) -> str:
    """Make a database and return its address."""
    connection = psycopg2.connect(f"{server}/postgres")
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{name}"')
    connection.close()
    return f"{server.replace('postgresql:', 'postgresql+psycopg2:')}/{name}"
