"""`pii-finetune run`: the flow in this process, and what came of it."""

import asyncio
import os
import signal
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.console import open_console
from pii_finetune.errors import BadConfigError, UserError
from pii_finetune.hub_dataset import absolute_source
from pii_finetune.overrides import parse_assignments, read_config_file
from pii_finetune.setup import configure_run
from pii_finetune.tracking_server import require_server

if TYPE_CHECKING:
    from pii_finetune.evaluation import EvaluationReport


def run(
    profile: str | None, config_file: Path | None, data: str | None, assignments: list[str], force: bool = False
) -> int:
    """Check the settings, run the flow, and show models, decision and where time went."""
    chosen, overrides = chosen_settings(profile, config_file, assignments)
    workbook = absolute_source(data) if data is not None else None
    configure_run(chosen, workbook, overrides)  # a mistake is told before any server is started

    require_server()
    start_prefect()
    from flows.finetune import finetune

    state = finetune(chosen, workbook, overrides, force, return_state=True)
    console = open_console()
    if not state.is_completed():
        return tell_failure(state, console)
    tracked, report, pair, decision = state.result()
    console.print(_models_table(report))
    console.print(
        f"\n[bold]{escape(decision.reason)}[/] "
        f"({pair.names.dpo} version {pair.dpo_version}, {pair.names.sft} version {pair.sft_version})",
        highlight=False,
    )
    if state.state_details.flow_run_id is not None:
        console.print(_stages_table(asyncio.run(_task_runs(state.state_details.flow_run_id))))
    console.print(f"MLflow: {tracked.url}", highlight=False, soft_wrap=True)
    if "127.0.0.1" in tracked.url:
        console.print(
            f"(`make up` serves it; models:/{pair.names.dpo}/Production loads without a server)", highlight=False
        )
    return 0


def chosen_settings(
    profile: str | None, config_file: Path | None, assignments: list[str]
) -> tuple[str, dict[str, Any]]:
    """Return the profile's name and the settings beside it; what is on the command line wins over the file."""
    overrides: dict[str, Any] = read_config_file(config_file) if config_file else {}
    named = overrides.pop("profile", None)
    if named is not None and not isinstance(named, str):
        raise BadConfigError(f"--config {config_file}: profile = {named!r} is not a name")
    return profile or named or "embedded", overrides | parse_assignments(assignments)


def start_prefect() -> None:
    """Start Prefect's temporary server, if no PREFECT_API_URL names one, deaf to the terminal's ctrl-C.

    Ctrl-C reaches every process of the terminal's group at once. A server that stopped on it would leave the flow
    retrying for minutes to report its own end; a signal that is blocked stays so in a child. The server is stopped
    when this process exits.
    """
    # The first start makes a database and compiles everything: more than the 20 s Prefect waits by default.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
    # After 2, 4, 8, ... seconds: a server that is away for four minutes fails no run. Prefect's own 5 are one minute.
    os.environ.setdefault("PREFECT_CLIENT_MAX_RETRIES", "7")
    from prefect.client.orchestration import get_client

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with get_client(sync_client=True):
            pass
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def tell_failure(state: Any, console: Console) -> int:
    """Say why a flow did not complete, and return the exit code; what the user can mend is raised."""
    error = asyncio.run(_error_of(state))
    if isinstance(error, UserError):
        raise error
    console.print(f"\n[bold red]{state.name}[/]: {escape(str(error))}", highlight=False)
    return 1


async def _error_of(state: Any) -> Any:
    from prefect.states import get_state_exception

    try:
        return await cast("Any", get_state_exception(state))
    except Exception:  # noqa: BLE001  a cancelled or crashed state need not hold an exception
        return state.message or "no reason is known"


async def _task_runs(flow_run_id: UUID) -> Sequence[tuple[str, timedelta]]:
    """Return the flow run's tasks and how long each ran, as Prefect recorded it."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.client.schemas.sorting import TaskRunSort

    async with get_client() as client:
        runs = await client.read_task_runs(
            flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id])),
            sort=TaskRunSort.EXPECTED_START_TIME_DESC,
        )
    return [(each.name.rsplit("-", 1)[0], each.total_run_time) for each in reversed(runs)]


def _models_table(report: "EvaluationReport") -> Table:
    # Without lines it fits a terminal of 80 columns, headers and all.
    table = Table(
        title="\nTest split", title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0)
    )
    rows = report.summary_rows()
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="left" if name == "model" else "right")
    for row in rows:
        table.add_row(*(value if isinstance(value, str) else f"{value:.3f}" for value in row.values()))
    return table


def _stages_table(stages: Sequence[tuple[str, timedelta]]) -> Table:
    table = Table(title="\nWhere time went", title_justify="left", title_style="bold")
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    table.add_column("")
    total = sum(duration.total_seconds() for _, duration in stages) or 1.0
    for name, duration in stages:
        seconds = duration.total_seconds()
        table.add_row(name, f"{seconds:.1f}", "█" * round(40 * seconds / total))
    table.add_row("total", f"{total:.1f}", "", style="bold")
    return table
