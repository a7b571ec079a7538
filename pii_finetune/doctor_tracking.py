"""What `pii-finetune doctor` says of MLflow: there, letting us in, of our version, with a registry that can be used."""

import os
import sqlite3
import time
from importlib.metadata import version
from typing import Any

from pii_finetune.checks import ANSWER_SECONDS, Check
from pii_finetune.clock import skew_of
from pii_finetune.errors import MissingServerError
from pii_finetune.paths import ROOT
from pii_finetune.tracking_server import require_server, shown

_LOG = "look at the server's log"
_QUESTIONS = {
    "experiments": ("/api/2.0/mlflow/experiments/search", "POST"),
    "models": ("/api/2.0/mlflow/registered-models/search", "GET"),
}


def check_tracking() -> list[Check]:
    """Look at what MLFLOW_TRACKING_URI names, or else at the local store, which is not made by looking."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith(("http://", "https://")):
        return _server(uri)
    if uri:
        try:
            require_server()
        except MissingServerError as error:
            return [Check("MLflow", "red", str(error), "correct MLFLOW_TRACKING_URI, or unset it")]
        return [Check("MLflow", "green", f"{shown(uri)}: a database that answers")]
    store = ROOT / "mlruns" / "mlflow.db"
    if not store.exists():
        return [Check("MLflow", "green", "local store in mlruns/, made by the first run")]
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as database:
        num_runs = database.execute("select count(*) from runs").fetchone()[0]
    return [Check("MLflow", "green", f"local store in mlruns/, {num_runs} runs")]


def _server(uri: str) -> list[Check]:
    from mlflow.exceptions import MlflowException

    began = time.time()
    try:
        answer = _ask("/version")
    except MlflowException as error:
        told = f"{shown(uri)} gives no answer ({_reason(error)})"
        return [Check("MLflow", "red", told, "start the server, correct MLFLOW_TRACKING_URI, or unset it")]
    clock = skew_of("MLflow's server", answer.headers, began)
    if refused := _refused(answer):
        return [Check("MLflow", "red", f"{shown(uri)} {refused[0]}", refused[1]), *clock]
    if answer.status_code != 200 or not answer.text[:1].isdigit():
        told = f"{shown(uri)}: no MLflow server in order (status {answer.status_code})"
        return [Check("MLflow", "red", told, f"correct the address; {_LOG}"), *clock]
    theirs, ours = answer.text.strip(), version("mlflow")
    remedy = "run the server and this client at the version of requirements.lock"
    level = "green" if theirs == ours else "yellow"
    return [
        Check("MLflow", "green", f"{shown(uri)} answers"),
        Check("version", level, f"server {theirs}, here {ours}", remedy),
        *clock,
        *(_readable(name, *question) for name, question in _QUESTIONS.items()),
    ]


def _ask(path: str, method: str = "GET", **arguments: Any) -> Any:
    """Ask as MLflow's own client does, with its credentials and certificates, but once."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    creds = get_default_host_creds(os.environ["MLFLOW_TRACKING_URI"])
    return http_request(creds, path, method, max_retries=0, timeout=ANSWER_SECONDS, raise_on_status=False, **arguments)


def _reason(error: Exception) -> str:
    """Return why there is no answer; the client's own words name its pool of connections and addresses in memory."""
    reasons = {"Timeout": "it took too long", "refused": "connection refused", "Resolution": "no such host"}
    return next((reason for sign, reason in reasons.items() if sign in str(error)), "no connection")


def _refused(answer: Any) -> tuple[str, str] | None:
    """Return how the answer refuses us, and what to do, or None."""
    if answer.status_code == 401:
        given = "MLFLOW_TRACKING_USERNAME" in os.environ or "@" in os.environ["MLFLOW_TRACKING_URI"]
        told = "does not accept the credentials (401)" if given else "wants credentials, and none are set (401)"
        return told, "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of a user of the server"
    if answer.status_code == 403 and "Host" in answer.text:
        return "does not go by this name (403)", "use another, or add this one to its MLFLOW_SERVER_ALLOWED_HOSTS"
    if answer.status_code == 403:
        return "does not let this user read (403)", "have the server's admin grant this user permissions"
    return None


def _readable(name: str, path: str, method: str) -> Check:
    """Ask for what a run asks for."""
    answer = _ask(path, method, **{"json" if method == "POST" else "params": {"max_results": 100}})
    if refused := _refused(answer):
        return Check(name, "red", f"the server {refused[0]}", refused[1])
    if answer.status_code != 200:
        return Check(name, "red", f"the server answers {answer.status_code}", _LOG)
    return Check(name, "green", f"{sum(map(len, answer.json().values()))} can be read")
