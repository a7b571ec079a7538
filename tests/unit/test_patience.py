import os

import pytest
import requests
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, TEMPORARILY_UNAVAILABLE

from pii_finetune.config import TrackingConfig
from pii_finetune.errors import MissingModelError
from pii_finetune.patience import is_away, patience, patiently

SHORT = TrackingConfig(request_timeout_seconds=1, patience_seconds=60)


def answered(status):
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError(response=response)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("reset by peer"),
        requests.ConnectionError("refused"),
        requests.ReadTimeout("slow"),
        answered(503),
        MlflowException("API request to http://h/x failed with exception Max retries exceeded: too many 500"),
        MlflowException("API request to http://h/x failed with timeout exception"),
        MlflowException("API request to endpoint /x failed with error code 502 != 200"),
        MlflowException("(sqlite3.OperationalError) database is locked", TEMPORARILY_UNAVAILABLE),
        MlflowException("(psycopg2.InterfaceError) connection already closed", BAD_REQUEST),
    ],
)
def test_what_time_may_mend_is_waited_for(error):
    assert is_away(error)


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        MlflowException("(sqlite3.OperationalError) database or disk is full", TEMPORARILY_UNAVAILABLE),
        MlflowException("attempt to write a readonly database", TEMPORARILY_UNAVAILABLE),
        MlflowException('FATAL: password authentication failed for user "mlflow"', TEMPORARILY_UNAVAILABLE),
        RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Run 'x' not found"}),
        RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "no such param"}),
        MlflowException("Run with UUID x is already active"),
        answered(404),
        MissingModelError("give another"),
        ZeroDivisionError(),
    ],
)
def test_what_no_time_mends_is_raised_at_once(error):
    assert not is_away(error)
    calls = []

    def fail():
        calls.append(1)
        raise error

    with patience(SHORT), pytest.raises(type(error)):
        patiently(fail)
    assert len(calls) == 1


def test_outside_of_a_run_nothing_is_waited_for():
    calls = []

    def fail():
        calls.append(1)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        patiently(fail)
    assert len(calls) == 1


def test_requests_are_short_and_sent_once_within_a_run_only(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    with patience(SHORT):
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "1"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
