"""`pii-finetune sweep`: many trainings in this process, and what came of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.console import open_console
from cli.run import chosen_settings, start_prefect, tell_failure
from pii_finetune.errors import BadConfigError
from pii_finetune.hub_dataset import absolute_source
from pii_finetune.overrides import parse_assignments
from pii_finetune.setup import configure_run
from pii_finetune.sweep.space import build_space, parse_grid, parse_ranges
from pii_finetune.tracking_server import require_server

if TYPE_CHECKING:
    from tasks.sweep import SweepResult


@dataclass(frozen=True)
class Trials:
    """What to try, as it was typed."""

    grid: list[str]
    ranges: list[str]
    num_trials: int | None
    each: list[str]
    each_language: bool


def sweep(
    profile: str | None,
    config_file: Path | None,
    data: str | None,
    assignments: list[str],
    trials: Trials,
    *,
    pruning: bool,
) -> int:
    """Check the settings, run the flow, and show for each model its trials and the decision."""
    chosen, overrides = chosen_settings(profile, config_file, assignments)
    workbook = absolute_source(data) if data is not None else None
    grid, ranges, variants = parse_grid(trials.grid), parse_ranges(trials.ranges), parse_variants(trials.each)
    config = configure_run(chosen, workbook, overrides)  # a mistake is told before any server is started
    build_space(config, grid, ranges, trials.num_trials)

    require_server()
    start_prefect()
    from flows.sweep import sweep as run_sweep

    state = run_sweep(
        chosen,
        workbook,
        overrides,
        grid,
        ranges,
        trials.num_trials,
        variants,
        trials.each_language,
        pruning,
        return_state=True,
    )
    console = open_console()
    if not state.is_completed():
        return tell_failure(state, console)
    results: Sequence[SweepResult] = state.result()
    for result in results:
        _show(result, console)
    return 0 if all(result.best is not None for result in results) else 1


def parse_variants(assignments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return `["hr:data.workbook=hr.xlsx"]` as {"hr": {"data.workbook": "hr.xlsx"}}.

    Raises:
        BadConfigError: an assignment is not NAME:PATH=VALUE, or gives a variant a setting twice.
    """
    variants: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        name, colon, setting = assignment.partition(":")
        if not colon or not name.strip() or "=" not in setting or "=" in name:
            raise BadConfigError(
                f"--each {assignment!r} is not NAME:PATH=VALUE; write e.g. --each hr:data.workbook=hr.xlsx"
            )
        [(path, value)] = parse_assignments([setting]).items()
        own = variants.setdefault(name.strip(), {})
        if path in own:
            raise BadConfigError(
                f"--each {assignment!r}: {name.strip()} has {path} = {own[path]!r} already; give it once, or another "
                "name, for each name is one model"
            )
        own[path] = value
    return variants


def _show(result: "SweepResult", console: Console) -> None:
    title = f"\nTrials of {result.variant}" if result.variant else "\nTrials"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    swept = list(dict.fromkeys(path for row in result.trials for path in row.settings))
    table.add_column("trial", justify="right")
    for path in swept:
        table.add_column(path, justify="right")
    table.add_column("validation F1", justify="right")
    table.add_column("")
    for row in result.trials:
        last = row.f1 if row.state == "done" else max(row.checks.items(), default=(0, None))[1]
        is_best = result.best is not None and row.number == result.best.number
        table.add_row(
            str(row.number),
            *(_shown(row.settings.get(path)) for path in swept),
            "" if last is None else f"{last:.4f}",
            "[bold]best[/]" if is_best else "" if row.state == "done" else _why(row.state, row.reason),
        )
    console.print(table)
    console.print(f"\n[bold]{escape(result.reason)}[/]", highlight=False)
    console.print(f"MLflow: {result.run.url}", highlight=False, soft_wrap=True)


def _why(state: str, reason: str) -> str:
    if state == "stopped early":
        return state
    return escape(f"{state}: {reason.splitlines()[0]}" if reason else state)


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))
