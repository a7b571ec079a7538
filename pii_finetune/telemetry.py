"""Metrics of a training on their way to MLflow: a step never waits for them, and none is lost or doubled.

`log` writes a line to a spool on disk and returns; a thread delivers the lines in order, and goes on trying while the
server is away. An answer that was lost leaves open whether the points are there, as does a process that was killed. So
at its start, and after every failure, the thread asks the server which steps it has and leaves those out.
"""

import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Metric

from pii_finetune.config import TrackingConfig
from pii_finetune.errors import TrackingUnreachableError
from pii_finetune.patience import is_away, reason_of
from pii_finetune.spool import Point, Spool
from pii_finetune.tracking_server import shown

_LOGGER = logging.getLogger(__name__)
_BATCH = 1000  # metrics that MLflow takes at once
_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 0.5, 10.0
_SECONDS_BETWEEN_WORDS = 10.0
_SECONDS_AFTER_A_REFUSAL = 5.0
_SECONDS_AFTER_AN_ERROR = 5.0  # for the last metrics of a training that failed or was stopped


@contextmanager
def sending_metrics(run_id: str, folder: Path, settings: TrackingConfig) -> Iterator["MetricSender"]:
    """Send metrics to a run from within; at the end, wait until they are there.

    Raises:
        TrackingUnreachableError: MLflow stayed away; what it has not got stays in the folder for the next run.
    """
    sender = MetricSender(run_id, folder / f"metrics-{run_id}.jsonl")
    try:
        yield sender
    except BaseException:
        try:
            sender.close(min(_SECONDS_AFTER_AN_ERROR, settings.patience_seconds))
        except TrackingUnreachableError as undelivered:
            _LOGGER.warning("%s", undelivered)
        raise
    sender.close(settings.patience_seconds)


class MetricSender:
    """Delivers metrics to one run from a thread of its own, what its spool holds from before first."""

    def __init__(self, run_id: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._run_id, self._spool, self._client = run_id, Spool(path), MlflowClient()
        self._server = shown(mlflow.get_tracking_uri())
        self._pending = deque(self._spool.read())
        if self._pending:
            _LOGGER.info("%d metrics of the run before are delivered first, from %s", len(self._pending), path)
        self._known: dict[str, set[int]] = {}  # steps the server has, by metric; asked for where there is no entry
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._since: datetime | None = None  # when the server was found to be away
        self._trouble: Exception | None = None
        # In this context, so that what it says is read in the log of the task that is running.
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(self._deliver,), name="metrics", daemon=True).start()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Hand over the metrics of a step; returns at once, whatever the server does."""
        with self._changed:
            self._pending.extend(self._spool.append(metrics, time.time_ns() // 1_000_000, step))
            self._changed.notify_all()

    def close(self, timeout: float) -> None:
        """Wait until all is delivered, say from time to time what for, and end the thread.

        Raises:
            TrackingUnreachableError: it was not within `timeout` seconds, or the server refuses the metrics.
        """
        began = told = time.monotonic()
        with self._changed:
            while self._pending:
                now = time.monotonic()
                left = began + (min(timeout, _SECONDS_AFTER_A_REFUSAL) if self._is_refused else timeout) - now
                if left <= 0:
                    break
                if now - told >= _SECONDS_BETWEEN_WORDS:
                    told = now
                    _LOGGER.info("%s; waiting for it, %.0f s more at most", self._state(), left)
                self._changed.wait(min(left, _SECONDS_BETWEEN_WORDS))
            self._closed.set()
            self._changed.notify_all()
            if self._pending:
                raise TrackingUnreachableError(
                    f"{self._state()}; they are kept in {self._spool.path}: run the same again when MLflow answers, "
                    "and it goes on from there and delivers them"
                )
            self._spool.clear()

    @property
    def _is_refused(self) -> bool:
        return self._trouble is not None and not is_away(self._trouble)

    def _state(self) -> str:
        what = f"{len(self._pending)} metrics are not in MLflow at {self._server} yet"
        if self._trouble is None or self._since is None:
            return what
        verb = "refuses them" if self._is_refused else "cannot be reached"
        return f"{what}, which {verb} since {self._since:%H:%M:%S} ({reason_of(self._trouble)})"

    def _deliver(self) -> None:
        delay = _FIRST_DELAY_SECONDS
        while (batch := self._next_batch()) and not self._closed.is_set():
            try:
                self._send(batch)
            except Exception as error:  # noqa: BLE001  whatever it is, it must not end the training
                self._note(error)
                self._closed.wait(delay)
                delay = min(2 * delay, _LONGEST_DELAY_SECONDS)
            else:
                delay = _FIRST_DELAY_SECONDS
                self._done(len(batch))

    def _next_batch(self) -> Sequence[Point]:
        with self._changed:
            while not self._pending and not self._closed.is_set():
                self._changed.wait()
            return list(islice(self._pending, _BATCH))

    def _send(self, batch: Sequence[Point]) -> None:
        new = {}
        for point in batch:
            if point.key not in self._known:
                history = self._client.get_metric_history(self._run_id, point.key)
                self._known[point.key] = {each.step for each in history}
            if point.step not in self._known[point.key]:
                new.setdefault((point.key, point.step), Metric(point.key, point.value, point.timestamp, point.step))
        if new:
            self._client.log_batch(self._run_id, metrics=list(new.values()))
        for key, step in new:
            self._known[key].add(step)

    def _note(self, error: Exception) -> None:
        with self._changed:
            self._known.clear()
            is_first, self._trouble = self._trouble is None, error
            if is_first:
                self._since = datetime.now().astimezone()
                _LOGGER.warning("%s; the training goes on, and they are kept in %s", self._state(), self._spool.path)
            self._changed.notify_all()

    def _done(self, count: int) -> None:
        with self._changed:
            if self._closed.is_set():
                return  # too late: the spool may be the next run's by now, which finds out what has arrived
            for _ in range(count):
                self._pending.popleft()
            if self._trouble is not None:
                self._trouble = None
                _LOGGER.info("MLflow at %s is back: %d metrics delivered", self._server, count)
            if not self._pending:
                self._spool.clear()
            self._changed.notify_all()
