"""A workbook at an fsspec URL: s3://bucket/labels.xlsx, gs://, https://, memory://, ..."""

from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from pii_finetune.errors import BadWorkbookError
from pii_finetune.hub_dataset import is_hub_dataset


def is_remote(source: str) -> bool:
    """Return whether the source is a URL that fsspec reads, and neither a path nor a dataset of the hub."""
    return "://" in source and not is_hub_dataset(source)


def describe_remote(source: str) -> dict[str, Any]:
    """Return what the file system says of the file: its size and, where it knows them, time and etag.

    Raises:
        BadWorkbookError: no such protocol, package, or file, or no answer.
    """
    system, path = _open(source)
    try:
        return dict(system.info(path))
    except Exception as error:  # noqa: BLE001  every file system raises errors of its own
        raise _unreadable(source, error) from None


def download_remote(source: str, folder: Path) -> Path:
    """Copy the file below `folder`, under its own name: its suffix says how it is read.

    Raises:
        BadWorkbookError: as describe_remote.
    """
    system, path = _open(source)
    target = folder / PurePosixPath(path.partition("?")[0]).name
    try:
        system.get_file(path, str(target))
    except Exception as error:  # noqa: BLE001  every file system raises errors of its own
        raise _unreadable(source, error) from None
    return target


def _open(source: str) -> tuple[Any, str]:
    try:
        return fsspec.core.url_to_fs(source)
    except ImportError as error:  # its message names the package to install
        raise BadWorkbookError(f"{shown_url(source)}: {error}") from None
    except ValueError as error:
        raise BadWorkbookError(
            f"{shown_url(source)}: {error}; give a path, or a URL such as s3://bucket/file"
        ) from None


def _unreadable(source: str, error: Exception) -> BadWorkbookError:
    reason = "there is no such file" if isinstance(error, FileNotFoundError) else type(error).__name__
    return BadWorkbookError(f"{shown_url(source)}: cannot be read ({reason}); check the URL and the credentials for it")


def shown_url(source: str) -> str:
    """Return the URL without what may be secret: a query, which signs it, and a user's password."""
    protocol, _, rest = source.partition("?")[0].partition("://")
    return f"{protocol}://{rest.rpartition('@')[2]}"
