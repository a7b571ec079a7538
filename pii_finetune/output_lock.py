"""One process at a time in an output folder: a lock that the kernel frees when its holder dies."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pii_finetune.errors import OutputLockedError


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
