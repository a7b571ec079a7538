"""Waiting for an MLflow that is away: for minutes, aloud, and only where trying again can help.

MLflow's own client waits too, but up to 120 s for each answer and without a word, and it sends again what may have
been done already. Within `patience` a request waits for seconds and is sent once; `patiently` tries the call again.
What is called must bear being done twice: the answer to the first time may have been lost.
"""

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import ParamSpec, TypeVar

import mlflow
import requests
from mlflow.exceptions import MlflowException

from pii_finetune.config import TrackingConfig
from pii_finetune.errors import TrackingUnreachableError
from pii_finetune.tracking_server import shown

P = ParamSpec("P")
T = TypeVar("T")

_LOGGER = logging.getLogger(__name__)
_FIRST_DELAY_SECONDS, _LONGEST_DELAY_SECONDS = 0.5, 10.0
_SILENT_SECONDS, _SECONDS_BETWEEN_WORDS = 1.0, 30.0
_PATIENCE_SECONDS: ContextVar[float] = ContextVar("patience_seconds", default=0.0)

_LOST_CONNECTIONS = (
    ConnectionError,
    TimeoutError,
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)
# MLflow turns whatever happened to a request, or to a database, into one kind of exception: its text tells them apart.
_AWAY = re.compile(
    r"API request to \S+ failed with (timeout )?exception|failed with error code (429|5\d\d)"
    r"|ConnectionError|ConnectTimeout|ReadTimeout|Connection refused|Connection reset|RemoteDisconnected"
    r"|database is locked|OperationalError|InterfaceError"
)
_NO_MATTER_OF_TIME = re.compile(
    r"No space left|Disk quota|(database or )?disk is full|disk I/O error|readonly database|read-only"
    r"|unable to open database|no such (table|column)|password authentication|CERTIFICATE_VERIFY|InvalidSchema",
    re.IGNORECASE,
)


@contextmanager
def patience(settings: TrackingConfig) -> Iterator[None]:
    """Let `patiently` wait as long as the settings say, and each request to MLflow wait seconds and be sent once."""
    limits = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(settings.request_timeout_seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    before = {name: os.environ.get(name) for name in limits}
    os.environ.update(limits)
    token = _PATIENCE_SECONDS.set(settings.patience_seconds)
    try:
        yield
    finally:
        _PATIENCE_SECONDS.reset(token)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def patiently(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call, and call again with growing delay while MLflow is away; outside of `patience`, call once.

    Raises:
        TrackingUnreachableError: it stayed away for longer than the patience lasts.
    """
    limit = _PATIENCE_SECONDS.get()
    began, since = time.monotonic(), datetime.now().astimezone()
    delay, told = _FIRST_DELAY_SECONDS, _SILENT_SECONDS - _SECONDS_BETWEEN_WORDS
    while True:
        try:
            result = call(*args, **kwargs)
        except Exception as error:
            if limit == 0 or not is_away(error):
                raise
            waited = time.monotonic() - began
            if waited + delay > limit:
                raise TrackingUnreachableError(
                    f"{_server()}: cannot be reached since {since:%H:%M:%S} ({reason_of(error)}), and "
                    f"tracking.patience_seconds = {limit:g} are over; start it, then run the same again: it goes on "
                    "from what is finished"
                ) from error
            if waited - told >= _SECONDS_BETWEEN_WORDS:
                told = waited
                _LOGGER.warning(
                    "%s: cannot be reached since %s (%s); waiting for it, %.0f s more at most",
                    *(_server(), f"{since:%H:%M:%S}", reason_of(error), limit - waited),
                )
            time.sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY_SECONDS)
        else:
            if told >= 0:
                _LOGGER.info("%s: is back after %.0f s", _server(), time.monotonic() - began)
            return result


def is_away(error: BaseException) -> bool:
    """Whether the error says that MLflow, its database or its artifacts could not be reached, so may be later."""
    text = str(error)
    if _NO_MATTER_OF_TIME.search(text):
        return False
    if isinstance(error, requests.HTTPError):
        return error.response is not None and error.response.status_code >= 500
    if isinstance(error, MlflowException):
        return error.error_code == "TEMPORARILY_UNAVAILABLE" or _AWAY.search(text) is not None
    return isinstance(error, _LOST_CONNECTIONS) or type(error).__name__ == "OperationalError"


def reason_of(error: BaseException) -> str:
    """Return what happened in a few words."""
    text = str(error)
    for known in ("Connection refused", "Connection reset", "timed out", "RemoteDisconnected", "database is locked"):
        if known.lower() in text.lower():
            return known
    if answered := re.search(r"too many (\d+) error responses|error code (\d+)", text):
        return f"it answers with status {answered[1] or answered[2]}"
    return " ".join(text.split())[:200] or type(error).__name__


def _server() -> str:
    return f"MLflow at {shown(mlflow.get_tracking_uri())}"
