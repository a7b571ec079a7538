"""The folder of parts, on a disk or in an object store, in which a name is there with its whole file or not at all."""

import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from pii_finetune.errors import BadWorkbookError, OutputOutOfReachError
from pii_finetune.remote_file import is_remote, open_remote, shown_source

# A file appears there at once, when its upload ends.
_OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci"})
_ASIDE = ".new"
_NUM_NAMED = 3


class OutputFolder:
    """Where the parts go; readers of folders of Parquet files skip what begins with _ or a point."""

    def __init__(self, target: str) -> None:
        self.shown = shown_source(target)
        if is_remote(target):
            self._system, self._path = open_remote(target)
        else:
            self._system, self._path = LocalFileSystem(), str(Path(target).absolute())
        self._path = self._path.rstrip("/")
        self._is_local = isinstance(self._system, LocalFileSystem)

    def prepare(self, plan_name: str) -> None:
        """Make the folder, or see that it is one of ours.

        Raises:
            BadWorkbookError: it cannot be made, or holds something else.
        """
        if Path(self._path).suffix.lower() in (".csv", ".xlsx", ".parquet"):
            raise BadWorkbookError(f"--out {self.shown}: becomes a folder of parts; name it without such an ending")
        if self._is_local:
            self._prepare_local(Path(self._path))
        names = self.names()
        others = sorted(name for name in names if not name.startswith("."))
        if others and plan_name not in names:
            more = f" and {len(others) - _NUM_NAMED:,} more" if len(others) > _NUM_NAMED else ""
            raise BadWorkbookError(
                f"--out {self.shown}: holds other files ({', '.join(others[:_NUM_NAMED])}{more}); "
                "name a new or an empty folder"
            )

    def _prepare_local(self, folder: Path) -> None:
        if not folder.parent.is_dir():
            raise BadWorkbookError(f"--out {self.shown}: there is no folder {folder.parent}; make it first")
        try:
            folder.mkdir(exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except FileExistsError:
            raise BadWorkbookError(
                f"--out {self.shown}: is a file; name a folder, or let --engine local write one file"
            ) from None
        except OSError as error:
            raise BadWorkbookError(
                f"--out {self.shown}: cannot be written to ({error.strerror}); name a folder you can write to"
            ) from None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold a folder on a disk of ours, and clear away what a killed process had not finished.

        Raises:
            BadWorkbookError: another process holds it.
        """
        if not self._is_local:
            yield
            return
        lock = os.open(self._path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BadWorkbookError(
                    f"--out {self.shown}: another process is writing it; wait for its end, or name another folder"
                ) from None
            for name in self.names():
                if name.startswith(".") and name.endswith(_ASIDE):
                    Path(self._path, name).unlink(missing_ok=True)
            yield
        finally:
            os.close(lock)

    def names(self) -> set[str]:
        """Return the names of what is there.

        Raises:
            OutputOutOfReachError: the store gives no answer.
        """
        with self._told():
            self._system.invalidate_cache()
            try:
                found = self._system.ls(self._path, detail=False)
            except FileNotFoundError:  # an object store has no empty folders
                return set()
        return {str(name).rstrip("/").rpartition("/")[2] for name in found} - {""}

    def open(self, name: str) -> Any:
        """Open one of them to read it."""
        with self._told():
            return self._system.open(f"{self._path}/{name}", "rb")

    def put_text(self, name: str, text: str) -> None:
        """Write a small file, whole or not at all."""
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".json") as file:
            file.write(text)
            file.flush()
            self.put(name, Path(file.name))

    def remove(self, name: str) -> None:
        """Remove one of them, if it is there."""
        if name in self.names():
            with self._told():
                self._system.rm(f"{self._path}/{name}")

    def put(self, name: str, file: Path) -> None:
        """Copy a file there under that name, whole or not at all; one of that name is replaced.

        Raises:
            OutputOutOfReachError: the store did not take it.
        """
        target, aside = f"{self._path}/{name}", f"{self._path}/.{name}.{uuid.uuid4().hex[:8]}{_ASIDE}"
        if self._is_local:
            _copy_durably(file, Path(aside))
            Path(aside).replace(target)
            return
        with self._told():
            protocols = self._system.protocol
            if _OBJECT_STORES & ({protocols} if isinstance(protocols, str) else set(protocols)):
                self._system.put_file(str(file), target)
            else:
                self._system.makedirs(self._path, exist_ok=True)
                self._system.put_file(str(file), aside)
                self._system.mv(aside, target)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if self._is_local:
                raise
            raise OutputOutOfReachError(
                f"--out {self.shown}: cannot be written or listed now ({type(error).__name__}: {str(error)[:200]}); "
                "check the URL, the credentials for it and its server; the same command goes on where it stopped"
            ) from None


def _copy_durably(file: Path, target: Path) -> None:
    try:
        with file.open("rb") as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(copy.fileno())  # before the name is there, or a power cut could leave the name without the content
    except BaseException:
        target.unlink(missing_ok=True)
        raise
