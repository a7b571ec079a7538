"""What a look at a source costs little to see: whether it is there, and whether it was written since."""

import json
from pathlib import Path
from typing import Any

from pii_finetune.errors import BadWorkbookError
from pii_finetune.hub_dataset import is_hub_dataset
from pii_finetune.paths import resolve
from pii_finetune.remote_file import describe_remote, is_remote
from pii_finetune.table_folder import names_in, require_tables, tables_among

# What file systems know that is another when a file was written; a size may be the same.
_TELLING = (
    *("mtime", "LastModified", "last_modified", "Last-Modified", "updated", "created"),
    *("ETag", "etag", "md5Hash", "Content-MD5", "Digest", "sha256"),
)


def local_source(source: str) -> Path:
    """Return the path of a file or folder.

    Raises:
        BadWorkbookError: there is none.
    """
    path = resolve(source)
    if not path.exists():
        raise BadWorkbookError(f"{path}: there is no such file; check the path")
    if not path.is_file() and not path.is_dir():  # a pipe would be waited for without end
        raise BadWorkbookError(f"{path}: is not a file; give a workbook, e.g. an .xlsx file, or a folder of them")
    return path


def source_mark(source: str) -> str | None:
    """Return what changes whenever a table of the source is written; None if only its rows can tell.

    That is so of a dataset of the hub, and of a file at a URL whose server says no more than its size.

    Raises:
        BadWorkbookError: there is no such file, or no table in the folder.
        SourceOutOfReachError: whether there is could not be seen.
    """
    if is_hub_dataset(source):
        return None
    if is_remote(source):
        known = {name: telling_facts(facts) for name, facts in describe_remote(source).items()}
        return None if any(set(facts) <= {"size"} for facts in known.values()) else json.dumps(known)
    path = local_source(source)
    names: tuple[str, ...] = ("",)
    if path.is_dir():
        names, unread = tables_among(names_in(path))
        require_tables(str(path), names, unread)
    found = {name: (path / name).stat() for name in names}
    return json.dumps({name: [file.st_size, file.st_mtime_ns, file.st_ino] for name, file in found.items()})


def telling_facts(known: dict[str, Any]) -> dict[str, str]:
    """Return of what a file system knows of a file what is another when it was written."""
    return {name: str(known[name]) for name in ("size", *_TELLING) if known.get(name) is not None}
