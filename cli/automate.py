"""`pii-finetune automate`: the automations this project relies on, in Prefect's server."""

import os

from cli.console import open_console
from pii_finetune.errors import BadConfigError


def automate() -> int:
    """Create or update them."""
    if not os.environ.get("PREFECT_API_URL"):
        raise BadConfigError("PREFECT_API_URL is not set: name the Prefect server that gets the automations")
    from prefect.exceptions import ObjectNotFound

    from tasks.automations import NAMES, RESUMER, ensure_automations

    try:
        ensure_automations()
    except ObjectNotFound:
        raise BadConfigError(f"there is no deployment {RESUMER}: first run `prefect deploy --all`") from None
    for name in NAMES:
        open_console().print(f"there is: {name}", highlight=False)
    return 0
