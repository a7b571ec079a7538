"""`pii-finetune promote VERSION`, `pii-finetune rollback`, `pii-finetune history`."""

from mlflow import MlflowClient
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pii_finetune.by_hand import ByHand, promote_by_hand
from pii_finetune.by_hand import rollback as roll_back
from pii_finetune.drift import visible
from pii_finetune.promotion_history import history_of
from pii_finetune.promotion_plan import pending_plan
from pii_finetune.quiet import quiet_loggers, quiet_warnings
from pii_finetune.registry_state import read_state
from pii_finetune.tracking import configure_tracking, require_server


def promote(model: str, version: str, reason: str) -> int:
    """Put a version into production and say what took whose place."""
    _connect()
    _show(promote_by_hand(model, version, reason))
    return 0


def rollback(model: str, reason: str) -> int:
    """Put the version before back into production and say which that is."""
    _connect()
    _show(roll_back(model, reason))
    return 0


def history(model: str) -> int:
    """Show every promotion and rollback of the model, the latest first."""
    _connect()
    state = read_state(MlflowClient(), model)
    state.require_any()
    past = history_of(state.versions)
    table = Table("when (UTC)", "what", "version", "from", "by", "why")
    for each in reversed(past):
        # Text, not str: rich would take [bold] or :smile: in a reason for markup.
        cells = (f"{each.at[:19]}Z", each.kind, each.version, each.previous or "-", each.by, each.reason)
        table.add_row(*(Text(visible(cell), overflow="fold") for cell in cells))
    console = Console()
    if past:
        console.print(table)
    else:
        _say(f"no promotion of {model} is recorded")
    _say(f"in Production: {f'{model} version {state.loaded}' if state.loaded else f'no version of {model}'}")
    if pending_plan(state) is not None:
        _say("a promotion was broken off; the next `pii-finetune promote` or run finishes or drops it first")
    return 0


def _connect() -> None:
    quiet_loggers()
    quiet_warnings()
    require_server()
    configure_tracking()


def _show(result: ByHand) -> None:
    versions = " and ".join(f"{name} version {version}" for name, version in result.versions.items())
    one = len(result.versions) == 1
    if result.promotion is None:
        _say(f"{versions} {'is' if one else 'are'} in Production already; nothing was changed")
        return
    before = result.promotion.previous
    what = f"before: {next(iter(result.versions))} version {before}" if before else "before: none"
    _say(f"{versions} {'is' if one else 'are'} in Production ({what})")


def _say(line: str) -> None:
    Console().print(line, highlight=False, markup=False, soft_wrap=True)
