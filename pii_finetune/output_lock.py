"""One process at a time in an output folder, or on a GPU: locks that the kernel frees when their holder dies."""

import fcntl
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
def gpu_lock(device: str, number: str, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold a CUDA device of this machine, waiting for whoever has it; on a CPU there is nothing to hold.

    Args:
        device: cuda or cpu.
        number: what tells the device from the others, e.g. its UUID.
        on_wait: gets one line that says who holds it, once, if there is somebody.
    """
    if device != "cuda":
        yield
        return
    path = Path(tempfile.gettempdir()) / f"pii-finetune-gpu-{number}.lock"
    # All users of the machine take the same one.
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    with os.fdopen(handle, "r+") as file:
        if not _take(file):
            on_wait(f"waiting for the GPU: {_holder(file)} trains on it")
            while not _take(file):
                time.sleep(_POLL_SECONDS)
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
