"""One promotion at a time: a lock between processes and machines that frees itself when its holder dies.

Which lock it is follows from where MLflow's registry is:

- PostgreSQL: an advisory lock on a connection of its own. The database frees it when the connection ends.
- SQLite: `flock` on a file beside the database. The kernel frees it when the process ends.
- A server (http): tickets in the registry itself (`promotion_tickets`). A dead holder is passed over after its lease.

`PII_FINETUNE_LOCK_URI` names another place: a PostgreSQL or SQLite address, or an absolute path of a lock file on a
folder that all share. Only those who take the same lock exclude each other: where some promote through the server and
others straight through its database, all of them need this variable.
"""

import fcntl
import getpass
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import mlflow
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

from pii_finetune.errors import BadConfigError, MissingServerError, PromotionLockedError
from pii_finetune.promotion_tickets import ticket_lock

LOCK_VARIABLE = "PII_FINETUNE_LOCK_URI"
_POLL_SECONDS = 0.02
_ADVISORY_KEY = int.from_bytes(b"pii_fine")  # advisory locks are told apart by a number; any would do

Confirm = Callable[[], None]


@contextmanager
def promotion_lock(timeout_seconds: float = 60.0) -> Iterator[Confirm]:
    """Hold the lock of the registry in use; yields a function that raises if the lock was lost since.

    Raises:
        PromotionLockedError: another promotion holds it for longer than the time limit (the message says who), or it
            was lost while it was held.
        BadConfigError: `PII_FINETUNE_LOCK_URI` names no place a lock can be.
        MissingServerError: the database of the lock does not answer.
    """
    uri = os.environ.get(LOCK_VARIABLE, "")
    place = uri or mlflow.get_registry_uri()
    holder = f"{user_at_host()} pid {os.getpid()} since {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if place.startswith("postgres"):
        lock = _advisory_lock(place, holder, timeout_seconds)
    elif place.startswith("sqlite:"):
        lock = _file_lock(_beside(place), holder, timeout_seconds)
    elif uri:
        lock = _file_lock(_lock_file(uri), holder, timeout_seconds)
    else:
        lock = ticket_lock(holder, timeout_seconds)
    with lock as confirm:
        yield confirm


def user_at_host() -> str:
    """Return who runs this process, and where."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _beside(uri: str) -> Path:
    database = Path(sa.make_url(uri).database or "mlflow.db").resolve()
    return database.with_name(f"{database.name}.promotion.lock")


def _lock_file(uri: str) -> Path:
    parts = urlsplit(uri)
    path = Path(parts.path if parts.scheme == "file" else uri)
    if not path.is_absolute() or not path.parent.is_dir():
        raise BadConfigError(
            f"{LOCK_VARIABLE}={uri}: is neither postgresql://..., nor sqlite:///..., nor an absolute path in a folder "
            "that is there; name one that everybody who promotes can reach, or unset it"
        )
    return path


@contextmanager
def _file_lock(path: Path, holder: str, timeout_seconds: float) -> Iterator[Confirm]:
    """Hold `flock` on the file. The file stays: deleting it would let two hold the lock."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        file = _open(path)
        try:
            if _flock(file) and _is_same(file, path):
                break
            last_words = file.read().strip()
        except OSError as error:
            file.close()
            raise PromotionLockedError(
                f"{path}: cannot be locked there ({error}); name another place with {LOCK_VARIABLE}"
            ) from None
        file.close()
        if time.monotonic() > deadline:
            raise _locked(last_words or "a process that left no name", timeout_seconds, str(path))
        time.sleep(_POLL_SECONDS)

    def confirm() -> None:
        if not _is_same(file, path):
            raise PromotionLockedError(f"{path}: was deleted while a promotion held it; leave it there, and try again")

    with file:
        file.truncate(0)
        file.write(f"{holder}\n")
        file.flush()
        try:
            yield confirm
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough: a forked child may hold a copy
            time.sleep(_POLL_SECONDS)  # whoever promotes again and again leaves the others a turn


def _open(path: Path) -> IO[str]:
    try:
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8", errors="replace")
    except OSError as error:
        raise PromotionLockedError(
            f"{path}: cannot be opened ({error.strerror}); whoever promotes needs to write to it"
        ) from None


def _flock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_same(file: IO[str], path: Path) -> bool:
    return path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())


@contextmanager
def _advisory_lock(uri: str, holder: str, timeout_seconds: float) -> Iterator[Confirm]:
    """Hold an advisory lock until its transaction ends.

    A transaction's lock, not a session's: a pooler such as PgBouncer may give a session's lock to another client. The
    transaction reads and writes nothing, so that it is in nobody's way.
    """
    url = sa.make_url(uri)
    if "+" not in url.drivername:  # `postgresql` means another driver to each version of SQLAlchemy; this one we have
        url = url.set(drivername="postgresql+psycopg2")
    shown = url.render_as_string(hide_password=True)
    engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"connect_timeout": 10})
    try:
        connection = engine.connect()
    except OperationalError as error:
        raise MissingServerError(
            f"{shown}: the database that holds the promotion lock cannot be used ({str(error.orig).strip()}); start "
            f"it, or correct the address in {LOCK_VARIABLE} or MLFLOW_TRACKING_URI"
        ) from None
    with connection:
        _wait_for_advisory_lock(connection, holder, timeout_seconds, shown)

        def confirm() -> None:
            try:
                connection.execute(sa.text("SELECT 1"))
            except OperationalError as error:
                raise PromotionLockedError(
                    f"{shown}: the connection that held the promotion lock broke ({str(error.orig).strip()}); try again"
                ) from None

        yield confirm


def _wait_for_advisory_lock(connection: sa.Connection, holder: str, timeout_seconds: float, shown: str) -> None:
    settings = {
        "application_name": f"pii-finetune promotion {holder}",  # how the database tells others who it is
        "lock_timeout": f"{max(1, round(timeout_seconds * 1000))}ms",
        "idle_in_transaction_session_timeout": "0",
    }
    for name, value in settings.items():
        connection.execute(sa.text("SELECT set_config(:name, :value, true)"), {"name": name, "value": value})
    try:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_KEY})
    except OperationalError as error:
        if type(error.orig).__name__ != "LockNotAvailable":
            raise
        connection.rollback()
        raise _locked(_advisory_holder(connection), timeout_seconds, shown) from None


def _advisory_holder(connection: sa.Connection) -> str:
    found: Any = connection.execute(
        sa.text(
            "SELECT a.application_name, a.pid, host(a.client_addr) FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
            "WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND a.datname = current_database() "
            "AND ((l.classid::bigint << 32) | l.objid::bigint) = :key"
        ),
        {"key": _ADVISORY_KEY},
    ).first()
    if found is None:
        return "a process that ended just now"
    name, backend, address = found
    return f"{name.removeprefix('pii-finetune promotion ')} (from {address or 'the same host'}, backend pid {backend})"


def _locked(who: str, timeout_seconds: float, place: str) -> PromotionLockedError:
    return PromotionLockedError(
        f"another promotion is going on: {who} has held the lock {place} for more than the {timeout_seconds:g} s "
        "waited here; try again when it is done, or end it if it hangs (a lock whose holder is gone frees itself)"
    )
