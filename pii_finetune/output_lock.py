"""One process at a time in an output folder, and on a GPU: locks that the kernel frees when their holder dies."""

import fcntl
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pii_finetune.errors import OutputLockedError

_POLL_SECONDS = 0.5


@contextmanager
def output_lock(folder: Path) -> Iterator[None]:
    """Hold the folder.

    Raises:
        OutputLockedError: another process holds it; the message says which.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        if not _take(file):
            raise OutputLockedError(
                f"{folder}: {_holder(file)} trains the same stage on the same data there; "
                "wait for its end (what it makes is then reused), or stop it"
            )
        yield


@contextmanager
def gpu_lock(gpu: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a GPU of this host, waiting for whoever trains on it.

    Prefect's limit holds between runs of a deployment; this holds between these and `pii-finetune run` beside them.

    Args:
        gpu: what tells it from the host's others, however CUDA numbers them.
        say: gets one line that names the holder, if there is one.
    """
    with _open_for_all(Path(tempfile.gettempdir()) / f"pii-finetune-gpu-{gpu}.lock") as file:
        if not _take(file):
            say(f"GPU {gpu}: {_holder(file)} trains on it; waiting for its end")
            while not _take(file):
                time.sleep(_POLL_SECONDS)
        yield


def _open_for_all(path: Path) -> IO[str]:
    """Open a file that every user of this host can open, whoever was the first.

    Where that is in a folder for all, the kernel lets only its owner open it with O_CREAT (fs.protected_regular).
    """
    while True:
        try:
            return os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW), "r+")
        except FileNotFoundError:
            with suppress(FileExistsError):
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
                os.fchmod(handle, 0o666)
                os.close(handle)


def _take(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    file.seek(0)
    file.truncate()
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    return True


def _holder(file: IO[str]) -> str:
    file.seek(0)
    return file.read().strip() or "another process"
