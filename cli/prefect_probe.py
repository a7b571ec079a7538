"""Whether the Prefect server is there, lets us in, and is of our version: asked once, and not for minutes."""

import json
import time
from collections.abc import Callable

import httpx
from prefect import __version__
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import (
    PREFECT_API_REQUEST_TIMEOUT,
    PREFECT_CLIENT_MAX_RETRIES,
    get_current_settings,
    temporary_settings,
)

from pii_finetune.checks import ANSWER_SECONDS, Check, begin
from pii_finetune.clock import skew_of
from pii_finetune.tracking_server import shown


def begin_probe() -> Callable[[], list[Check]]:
    """Ask; return what waits for what the answer tells: one check that is red, or two or three."""
    return begin("Prefect", _probe)


def _probe() -> list[Check]:
    where = shown(get_current_settings().api.url or "")
    began = time.time()
    try:
        with temporary_settings({PREFECT_API_REQUEST_TIMEOUT: ANSWER_SECONDS, PREFECT_CLIENT_MAX_RETRIES: 0}):
            # Entered, the client would ask for the version itself, and raise what it does not like.
            client = get_client(sync_client=True)
            answer = client.request("GET", "/admin/version")
            theirs = str(answer.json())
    except PrefectHTTPStatusError as error:
        return [_refused(where, error.response.status_code)]
    except json.JSONDecodeError:
        return [Check("Prefect", "red", f"{where}: what answers is no Prefect API", "the address ends in /api")]
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        told = f"{where} gives no answer ({str(error) or type(error).__name__})"
        return [Check("Prefect", "red", told, "start the server (make up), correct PREFECT_API_URL, or unset it")]
    remedy = "run the server and this client at the version of requirements.lock"
    level = "green" if theirs == __version__ else "yellow"
    return [
        Check("Prefect", "green", f"{where} lets us in"),
        Check("version", level, f"server {theirs}, here {__version__}", remedy),
        *skew_of("Prefect's server", answer.headers, began),
    ]


def _refused(where: str, status: int) -> Check:
    api = get_current_settings().api
    if status in (401, 403):
        given = (
            "does not accept the credentials" if api.auth_string or api.key else "wants credentials, and none are set"
        )
        remedy = "set PREFECT_API_AUTH_STRING to the server's, as user:password"
        return Check("Prefect", "red", f"{where} {given} ({status})", remedy)
    told = f"{where}: no Prefect API in order (status {status})"
    return Check("Prefect", "red", told, "the address ends in /api; look at the server's log")
