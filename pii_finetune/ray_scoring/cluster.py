"""Ray: a cluster that is there (RAY_ADDRESS), or one of our own on this machine that ends with us."""

import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pii_finetune.errors import BadConfigError, MissingServerError, WorkersLostError

_PREFIX = "pii-ray-"
_PATIENCE_SECONDS = 10
_NUM_STARTS = 3
_LONGEST_TEMP = 40  # characters: what Ray puts below it makes a socket's name, which may have 107


@dataclass(frozen=True)
class RaySettings:
    """How many workers, and what they may take."""

    num_workers: int | None = None  # None: one for each GPU, or without any for each CPU
    rows_per_part: int = 65_536
    object_store_mib: int = 512  # of a cluster of our own; it holds the model's files and little else

    def __post_init__(self) -> None:
        """Refuse what Ray would refuse in other words, or not at all.

        Raises:
            BadConfigError: a number is too small.
        """
        if self.num_workers is not None and self.num_workers < 1:
            raise BadConfigError(f"--num-workers {self.num_workers}: must be at least 1")
        if self.rows_per_part < 1:
            raise BadConfigError(f"--rows-per-part {self.rows_per_part}: must be at least 1")
        if self.object_store_mib < 80:
            raise BadConfigError(f"--object-store-mib {self.object_store_mib}: Ray needs at least 80")


@dataclass(frozen=True)
class Cluster:
    """What is had of it."""

    num_workers: int
    num_gpus_each: int
    workplace: str | None  # a folder that ends with a cluster of ours; None: machines have their own


@contextmanager
def started(settings: RaySettings) -> Iterator[Cluster]:
    """Connect to the cluster that RAY_ADDRESS names, or start one here and stop it at the end, whatever the end is.

    Raises:
        MissingServerError: the cluster that is named does not answer.
        WorkersLostError: none could be started here.
        BadConfigError: it has fewer CPUs or GPUs than workers are asked for.
    """
    address = os.environ.get("RAY_ADDRESS", "").strip()
    with _own_folder() as folder, _quiet(None if address else folder), _keeping_sigterm() as keep_sigterm:
        import ray

        workplace = None if address else folder / "work"
        if workplace is None:
            _connect(ray, address)
        else:
            workplace.mkdir()
            _start(ray, settings, folder)
        keep_sigterm()
        try:
            yield _size(settings, ray.cluster_resources(), workplace and str(workplace))
        finally:
            ray.shutdown()


def _start(ray: Any, settings: RaySettings, folder: Path) -> None:
    """Start Ray here; it gives its own processes 30 seconds to appear, which a busy machine may need more than once."""
    for attempt in range(_NUM_STARTS):
        try:
            ray.init(
                address="local",
                num_cpus=settings.num_workers,
                object_store_memory=settings.object_store_mib * 2**20,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _temp_dir=str(folder),
            )
        except Exception as error:  # noqa: BLE001  it raises Exception itself, ValueError, OSError, ...
            ray.shutdown()
            if attempt + 1 < _NUM_STARTS:
                continue
            reason = str(error).strip().partition("\n")[0][:200]
            raise WorkersLostError(
                f"Ray could not be started here ({reason}); when the machine is less busy, or has more memory, "
                "the same command goes on where it stopped; --engine local needs no Ray"
            ) from None
        else:
            return


def _connect(ray: Any, address: str) -> None:
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # noqa: BLE001  it raises ConnectionError, RuntimeError, ValueError, ...
        reason = str(error).strip().partition("\n")[0][:200]
        raise MissingServerError(
            f"RAY_ADDRESS={address}: no cluster of Ray could be reached ({reason}); "
            "start one with `ray start --head`, or unset it to use this machine alone"
        ) from None


def _size(settings: RaySettings, resources: Mapping[str, float], workplace: str | None) -> Cluster:
    kind = "GPU" if resources.get("GPU", 0) >= 1 else "CPU"
    there = int(resources.get(kind, 0))
    wanted = settings.num_workers or max(there, 1)
    if wanted > there:
        raise BadConfigError(
            f"--num-workers {wanted}: the cluster has {there} {kind}s, and a worker takes one; ask for fewer"
        )
    return Cluster(wanted, int(kind == "GPU"), workplace)


@contextmanager
def _own_folder() -> Iterator[Path]:
    """Yield a folder that ends with us, or, when we are killed, with the next one of these."""
    system = tempfile.gettempdir() if len(tempfile.gettempdir()) <= _LONGEST_TEMP else "/tmp"  # noqa: S108  see mkdtemp
    for left in Path(system).glob(f"{_PREFIX}*"):
        pid = left.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=system))  # for nobody else to read
    try:
        yield folder
    finally:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while folder.exists() and time.monotonic() < deadline:  # processes of Ray write there until their last moment
            shutil.rmtree(folder, ignore_errors=True)
            time.sleep(0.1 if folder.exists() else 0)


@contextmanager
def _keeping_sigterm() -> Iterator[Callable[[], None]]:
    """Yield what is to be called once Ray has put its own handler of SIGTERM in place of, say, Prefect's.

    Where there was none, SIGTERM then ends this process by an exception, so that nothing of ours is left running.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # and Ray sets none
        return
    before = signal.getsignal(signal.SIGTERM)
    handler = before if callable(before) else lambda number, _frame: sys.exit(128 + number)
    try:
        yield lambda: _handle(handler)
    finally:
        _handle(before)


def _handle(handler: Any) -> None:
    signal.signal(signal.SIGTERM, handler)


@contextmanager
def _quiet(folder: Path | None) -> Iterator[None]:
    """Have Ray report nothing home and write no notes while it is in use; it must not be imported before.

    A cluster of our own in `folder` is closed to other users of this machine by a token.
    """
    wanted = {"RAY_USAGE_STATS_ENABLED": "0"}
    if folder is not None:
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32), encoding="utf-8")
        wanted |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update({name: value for name, value in wanted.items() if before[name] is None})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
