"""Whether MLflow's server, or database, is there: asked first, because MLflow itself would retry for minutes."""

import os
import re
from pathlib import Path

import httpx
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from pii_finetune.errors import MissingServerError
from pii_finetune.paths import ROOT

DEFAULT_STORE = ROOT / "mlruns"
_TIMEOUT_SECONDS = 10
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_LEFT_TO_MLFLOW = ("databricks", "databricks-uc", "uc")
_REMEDY = "correct the address, or unset the variable to use the local store in mlruns/"


def require_server() -> None:
    """Ask what MLFLOW_TRACKING_URI names, or else the local store, whether it is there.

    Raises:
        MissingServerError: no answer within 10 s, another kind of server, or a database that cannot be used.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DEFAULT_STORE / 'mlflow.db'}"
    kind = re.split(r"[+:]", uri, maxsplit=1)[0]
    if kind in ("http", "https"):
        _require_http(uri)
    elif kind in _DATABASES:
        _require_database(uri)
    elif kind not in _LEFT_TO_MLFLOW:
        raise MissingServerError(
            f"MLFLOW_TRACKING_URI={shown(uri)}: names nothing that can hold models; give the address of a server "
            "(http://host:port) or of a database (sqlite:////path/to/mlflow.db, postgresql://user@host/name)"
        )


def shown(uri: str) -> str:
    """Return an address as a message may show it: without the password in it."""
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", uri)


def with_driver(uri: str) -> str:
    """Return the address with the driver that is installed: a bare `postgresql` is another one to each SQLAlchemy."""
    return uri.replace("postgresql://", "postgresql+psycopg2://", 1) if uri.startswith("postgresql://") else uri


def _require_http(uri: str) -> None:
    try:
        status = httpx.get(f"{uri.rstrip('/')}/health", timeout=_TIMEOUT_SECONDS).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unusable(uri, f"no answer from there ({error or type(error).__name__}); start the server") from None
    if status == httpx.codes.NOT_FOUND or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise _unusable(uri, f"what answers there is no MLflow server in order (status {status}); look at its log")


def _require_database(uri: str) -> None:
    path = Path(uri.removeprefix("sqlite:///"))
    if uri.startswith("sqlite:///"):
        if not path.parent.is_dir() and path.parent != DEFAULT_STORE:
            raise MissingServerError(
                f"MLFLOW_TRACKING_URI={uri}: there is no folder {path.parent}; correct the path "
                "(an absolute one has four slashes: sqlite:////path/to/mlflow.db)"
            )
        if not path.exists():
            return  # the first use makes it
    timeout = {"connect_timeout": _TIMEOUT_SECONDS} if uri.startswith("postgresql") else {}
    try:
        engine = sa.create_engine(with_driver(uri), poolclass=sa.NullPool, connect_args=timeout)
        with engine.connect() as connection:
            connection.execute(
                sa.text("SELECT count(*) FROM sqlite_master" if uri.startswith("sqlite") else "SELECT 1")
            )
    except (SQLAlchemyError, ImportError) as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
        raise _unusable(uri, f"the database there cannot be used ({reason}); start it") from None


def _unusable(uri: str, problem: str) -> MissingServerError:
    return MissingServerError(f"MLFLOW_TRACKING_URI={shown(uri)}: {problem}, {_REMEDY}")
