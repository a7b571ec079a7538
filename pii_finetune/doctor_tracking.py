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
    import requests

    began = time.time()
    try:
        answer = _ask("/version")
    except requests.RequestException as error:
        told = f"{shown(uri)} gives no answer ({_reason(error)})"
        return [Check("MLflow", "red", told, "start the server, correct MLFLOW_TRACKING_URI, or unset it")]
    checks = [_as_answered(uri, answer.status_code, answer.text), *skew_of("MLflow's server", answer.headers, began)]
    if checks[0].level == "red":
        return checks
    theirs, ours = answer.text.strip(), version("mlflow")
    remedy = "run the server and this client at the version of requirements.lock"
    checks.insert(1, Check("version", "green" if theirs == ours else "yellow", f"server {theirs}, here {ours}", remedy))
    return [*checks, *_usable()]


def _ask(path: str, method: str = "GET", **arguments: Any) -> Any:
    """Ask as MLflow's own client does, with its credentials and certificates, but once."""
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    creds = get_default_host_creds(os.environ["MLFLOW_TRACKING_URI"])
    return http_request(creds, path, method, max_retries=0, timeout=ANSWER_SECONDS, raise_on_status=False, **arguments)


def _reason(error: Exception) -> str:
    """Return why there is no answer; the client's own words name its pool of connections and an address in memory."""
    told = str(error)
    for sign, reason in (
        ("timed out", "it took too long"),
        ("refused", "connection refused"),
        ("resolve", "no such host"),
    ):
        if sign in told:
            return reason
    return type(error).__name__


def _as_answered(uri: str, status: int, text: str) -> Check:
    where = shown(uri)
    if status == 401:
        given = "MLFLOW_TRACKING_USERNAME" in os.environ or "@" in uri
        told = "does not accept the credentials" if given else "wants credentials, and none are set"
        remedy = "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to those of a user of the server"
        return Check("MLflow", "red", f"{where} {told} (401)", remedy)
    if status == 403 and "Host" in text:
        remedy = "use a name it knows, or add this one to its MLFLOW_SERVER_ALLOWED_HOSTS"
        return Check("MLflow", "red", f"{where}: the server does not go by this name (403)", remedy)
    if status == 403:
        return Check("MLflow", "red", f"{where} does not let this user in (403)", "have its admin grant permissions")
    if status != 200 or not text[:1].isdigit():
        return Check(
            "MLflow", "red", f"{where}: no MLflow server in order (status {status})", f"correct the address; {_LOG}"
        )
    return Check("MLflow", "green", f"{where} lets us in")


def _usable() -> list[Check]:
    """Ask for what a run asks for: its experiments, and the registered models."""
    checks = []
    for name, path, method in (
        ("experiments", "/api/2.0/mlflow/experiments/search", "POST"),
        ("registry", "/api/2.0/mlflow/registered-models/search", "GET"),
    ):
        arguments = {"json": {"max_results": 100}} if method == "POST" else {"params": {"max_results": 100}}
        answer = _ask(path, method, **arguments)
        if answer.status_code == 200:
            found = len(answer.json().get("experiments" if method == "POST" else "registered_models", []))
            checks.append(Check(name, "green", f"{found} can be read"))
        elif answer.status_code in (401, 403):
            remedy = "have the server's admin grant this user permissions"
            checks.append(Check(name, "red", f"may not be read by this user ({answer.status_code})", remedy))
        else:
            checks.append(Check(name, "red", f"status {answer.status_code}", _LOG))
    return checks
