"""Workbooks at an fsspec URL, one or a folder of them: s3://bucket/labels.xlsx, gs://, https://, memory://, ..."""

from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from pii_finetune.errors import BadWorkbookError, SourceOutOfReachError
from pii_finetune.hub_dataset import is_hub_dataset
from pii_finetune.table_folder import require_tables, tables_among

_CONNECT_SECONDS, _READ_SECONDS = 10, 60  # of silence, from an HTTP server
_GONE = (404, 410)


def is_remote(source: str) -> bool:
    """Return whether the source is a URL that fsspec reads, and neither a path nor a dataset of the hub."""
    return "://" in source and not is_hub_dataset(source)


def describe_remote(source: str) -> dict[str, dict[str, Any]]:
    """Return what the file system says of each table there, by name: its size and, where it knows them, time and etag.

    Raises:
        BadWorkbookError: no such protocol, package, file, or no table in the folder.
        SourceOutOfReachError: no answer, or another one.
    """
    system, path = open_remote(source)
    try:
        found = dict(system.info(path))
        if found.get("type") != "directory":
            return {_name_in(path): found}
        files = {f"{_name_in(each['name'])}{_slash(each)}": dict(each) for each in system.ls(path, detail=True)}
    except Exception as error:  # noqa: BLE001  every file system raises errors of its own
        raise unreadable(source, error) from None
    tables, notes = tables_among(files)
    require_tables(shown_url(source), tables, notes)
    return {name: files[name] for name in tables}


def is_remote_folder(source: str) -> bool:
    """Return whether there is a folder at the URL.

    Raises:
        BadWorkbookError, SourceOutOfReachError: as describe_remote.
    """
    system, path = open_remote(source)
    try:
        return dict(system.info(path)).get("type") == "directory"
    except Exception as error:  # noqa: BLE001  every file system raises errors of its own
        raise unreadable(source, error) from None


def download_remote(source: str, folder: Path) -> tuple[Path, tuple[str, ...]]:
    """Copy the file, or a folder's tables, below `folder` under their own names: a suffix says how a file is read.

    Returns:
        What was made there, and notes on files of the folder that were left alone.

    Raises:
        BadWorkbookError, SourceOutOfReachError: as describe_remote.
    """
    system, path = open_remote(source)
    target = folder / _name_in(path)
    try:
        if dict(system.info(path)).get("type") != "directory":
            system.get_file(path, str(target))
            return target, ()
        tables, notes = tables_among(f"{_name_in(each['name'])}{_slash(each)}" for each in system.ls(path, detail=True))
        target.mkdir()
        for name in tables:
            system.get_file(f"{path.rstrip('/')}/{name}", str(target / name))
    except Exception as error:  # noqa: BLE001  every file system raises errors of its own
        raise unreadable(source, error) from None
    require_tables(shown_url(source), tables, notes)
    return target, notes


def open_remote(source: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path on it.

    Raises:
        BadWorkbookError: no such protocol, or no package for it.
    """
    try:
        system, path = fsspec.core.url_to_fs(source, **_patience(source))
    except ImportError as error:  # its message names the package to install
        raise BadWorkbookError(f"{shown_url(source)}: {error}") from None
    except ValueError as error:
        raise BadWorkbookError(
            f"{shown_url(source)}: {error}; give a path, or a URL such as s3://bucket/file"
        ) from None
    system.invalidate_cache()  # what was listed before is what we want to see changed
    return system, path


def _patience(source: str) -> dict[str, Any]:
    if not source.startswith(("http://", "https://")):
        return {}
    import aiohttp

    return {"client_kwargs": {"timeout": aiohttp.ClientTimeout(sock_connect=_CONNECT_SECONDS, sock_read=_READ_SECONDS)}}


def unreadable(source: str, error: Exception) -> BadWorkbookError:
    """Return what is said of a file system's error: the source is not there, or cannot be read now."""
    # To fsspec every failure of HTTP is a file that is not found; the cause knows better.
    cause = error.__cause__ if isinstance(error, FileNotFoundError) else error
    status = getattr(cause, "status", None)
    if status in _GONE or (status is None and not _is_of_network(cause) and isinstance(error, FileNotFoundError)):
        return BadWorkbookError(f"{shown_url(source)}: there is no such file; check the URL")
    reason = f"status {status}" if status is not None else type(cause or error).__name__
    return SourceOutOfReachError(
        f"{shown_url(source)}: cannot be read now ({reason}); check the URL, the credentials for it and its server"
    )


def _is_of_network(cause: BaseException | None) -> bool:
    return isinstance(cause, OSError) or type(cause).__module__.partition(".")[0] == "aiohttp"


def _name_in(path: str) -> str:
    return PurePosixPath(path.partition("?")[0]).name or "table"


def _slash(found: dict[str, Any]) -> str:
    return "/" if found.get("type") == "directory" else ""


def shown_url(source: str) -> str:
    """Return the URL without what may be secret: a query, which signs it, and a user's password."""
    protocol, _, rest = source.partition("?")[0].partition("://")
    return f"{protocol}://{rest.rpartition('@')[2]}"


def shown_source(source: str) -> str:
    """Return a path as it is, and a URL as it may be shown."""
    return shown_url(source) if is_remote(source) else source
