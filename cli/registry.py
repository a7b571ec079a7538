"""`pii-finetune promote VERSION`, `pii-finetune rollback`, `pii-finetune history`, `pii-finetune repair`."""

from mlflow import MlflowClient
from rich.table import Table
from rich.text import Text

from cli.console import open_console
from pii_finetune.by_hand import ByHand, promote_by_hand
from pii_finetune.by_hand import rollback as roll_back
from pii_finetune.drift import visible
from pii_finetune.promotion_history import history_of
from pii_finetune.promotion_plan import pending_plan
from pii_finetune.quiet import quiet_warnings
from pii_finetune.registry import repair as repair_registry
from pii_finetune.registry_state import CHAMPION, read_state
from pii_finetune.tracking import configure_tracking
from pii_finetune.tracking_server import require_server


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
    table = Table()
    for name in ("when (UTC)", "what", "version", "from", "by", "why"):
        table.add_column(name, no_wrap=name not in {"by", "why"})
    for each in reversed(past):
        # Text, not str: rich would take [bold] or :smile: in a reason for markup.
        cells = (f"{each.at[:19]}Z", each.kind, each.version, each.previous or "-", each.by, each.reason)
        table.add_row(*(Text(visible(cell), overflow="fold") for cell in cells))
    console = open_console()
    if past:
        console.print(table)
    else:
        _say(f"no promotion of {model} is recorded")
    _say(f"in Production: {f'{model} version {state.loaded}' if state.loaded else f'no version of {model}'}")
    if pending_plan(state) is not None:
        _say("a promotion is under way, or was broken off: `pii-finetune repair` finishes or drops it")
    elif state.is_at_odds:
        others = [f"version {version}" for version in state.production if version != state.loaded]
        also = f"; also in Production: {', '.join(others)}" if others else ""
        _say(f"stage and alias do not agree: {CHAMPION} is {state.champion}{also}; `pii-finetune repair` mends that")
    return 0


def repair(model: str) -> int:
    """Finish or drop what a promotion left half done, make stage and alias agree, and say what was done."""
    _connect()
    done = repair_registry(model)
    for sentence in done or ("nothing to repair: stage and alias agree, and no promotion was broken off",):
        _say(sentence)
    return 0


def _connect() -> None:
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
    open_console().print(line, highlight=False, markup=False, soft_wrap=True)
