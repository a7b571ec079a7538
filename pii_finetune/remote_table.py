"""A delimited text or Parquet file at an fsspec URL, opened as a path is: its bytes are fetched as they are read."""

import io
from pathlib import Path, PurePosixPath
from typing import IO, Any

from pii_finetune.errors import BadWorkbookError
from pii_finetune.remote_file import open_remote, shown_url, unreadable


class RemoteTable:
    """What the readers of such files use of a path."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.suffix = PurePosixPath(url.partition("?")[0]).suffix

    def __str__(self) -> str:
        return shown_url(self._url)

    def open(
        self, mode: str = "r", encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> IO[Any]:
        """Open it as Path.open() does, for reading.

        Raises:
            BadWorkbookError: it is not there, or its server gives no pieces of it.
            SourceOutOfReachError: it cannot be had now.
        """
        system, path = open_remote(self._url)
        try:
            file = system.open(path, "rb")
        except Exception as error:  # noqa: BLE001  every file system raises errors of its own
            raise unreadable(self._url, error) from None
        if not file.seekable():
            raise BadWorkbookError(f"{self}: its server gives the whole file only, no pieces of it; download it first")
        return file if "b" in mode else io.TextIOWrapper(file, encoding=encoding, errors=errors, newline=newline)


TablePath = Path | RemoteTable
