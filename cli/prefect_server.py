"""The Prefect server that a command needs."""

import os

import httpx

from pii_finetune.errors import BadConfigError, MissingServerError
from pii_finetune.tracking_server import shown

_TIMEOUT_SECONDS = 10


def require_prefect(purpose: str) -> None:
    """Ask the server that PREFECT_API_URL names whether it is there: Prefect itself would start one, or end in a trace.

    Args:
        purpose: what it is needed for, to end the sentence "name the Prefect server ...".

    Raises:
        BadConfigError: the variable is not set.
        MissingServerError: nothing, or no Prefect server, answers there.
    """
    url = os.environ.get("PREFECT_API_URL", "")
    if not url:
        raise BadConfigError(f"PREFECT_API_URL is not set: name the Prefect server {purpose}")
    try:
        answer = httpx.get(f"{url.rstrip('/')}/health", timeout=_TIMEOUT_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        problem = f"no answer from there ({error or type(error).__name__}); start the server, or correct the address"
        raise MissingServerError(f"PREFECT_API_URL={shown(url)}: {problem}") from None
    if not answer.is_success:
        problem = f"what answers there is no Prefect server in order (status {answer.status_code})"
        raise MissingServerError(f"PREFECT_API_URL={shown(url)}: {problem}; the address ends in /api")
