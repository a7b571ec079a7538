"""`pii-finetune automate`: the automations this project relies on, in Prefect's server."""

from cli.console import open_console
from cli.prefect_server import require_prefect
from pii_finetune.errors import BadConfigError


def automate() -> int:
    """Create or update them."""
    require_prefect("that gets the automations")
    from prefect.exceptions import ObjectNotFound

    from tasks.automations import NAMES, RESUMER, ensure_automations

    try:
        ensure_automations()
    except ObjectNotFound:
        raise BadConfigError(f"there is no deployment {RESUMER}: first run `prefect deploy --all`") from None
    for name in NAMES:
        open_console().print(f"there is: {name}", highlight=False)
    return 0
