"""`pii-finetune metrics`: what neither server tells Prometheus, asked for anew at every scrape."""

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import httpx
from mlflow.exceptions import MlflowException
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import GaugeMetricFamily

from cli.metrics_models import read_models
from cli.metrics_prefect import read_prefect
from pii_finetune.errors import BadConfigError, UserError
from pii_finetune.tracking import configure_tracking
from pii_finetune.tracking_server import require_server


class Servers:
    """Collects from both servers; one that is away takes away its own figures alone."""

    def __init__(self, disks: Iterable[Path]) -> None:
        """Ask nothing yet; `disks` are folders of which the disks' room is told."""
        self._disks = tuple(disks)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return every figure as it is now."""
        up = GaugeMetricFamily("pii_server_up", "Whether the server answers, and as it should", labels=["server"])
        parts: tuple[tuple[str, Callable[[], Iterator[GaugeMetricFamily]]], ...] = (
            ("prefect", read_prefect),
            ("mlflow", _read_mlflow),
        )
        for name, read in parts:
            try:
                yield from list(read())
            except (httpx.HTTPError, MlflowException, UserError) as error:
                print(f"metrics: {name}: {str(error).partition(chr(10))[0]}", file=sys.stderr)
                up.add_metric([name], 0)
            else:
                up.add_metric([name], 1)
        yield up
        yield from self._rooms()

    def _rooms(self) -> Iterator[GaugeMetricFamily]:
        size = GaugeMetricFamily("pii_disk_size_bytes", "The disk that a folder is on", labels=["folder"])
        free = GaugeMetricFamily("pii_disk_free_bytes", "What is free of it", labels=["folder"])
        for folder in self._disks:
            usage = shutil.disk_usage(folder)
            size.add_metric([str(folder)], usage.total)
            free.add_metric([str(folder)], usage.free)
        yield from (size, free)


def _read_mlflow() -> Iterator[GaugeMetricFamily]:
    require_server()  # MLflow itself would try again for minutes
    return read_models()


def serve(host: str, port: int, disks: list[Path]) -> int:
    """Answer Prometheus until stopped."""
    if not os.environ.get("PREFECT_API_URL"):
        raise BadConfigError("PREFECT_API_URL is not set: name the Prefect server to look at")
    for folder in disks:
        if not folder.is_dir():
            raise BadConfigError(f"--disk {folder}: there is no such folder")
    configure_tracking()
    registry = CollectorRegistry()
    try:
        start_http_server(port, host, registry)
    except (OSError, OverflowError) as error:
        raise BadConfigError(f"{host}:{port}: cannot be listened on ({error}); give another --port") from None
    registry.register(Servers(disks))  # asks once, which takes its time
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # as a container's first process we would not hear it
    print(f"metrics: http://{host}:{port}/metrics", flush=True)
    threading.Event().wait()
    return 0
