"""From a dataset that may have changed to at most one training run."""

import hashlib
from typing import Any
from uuid import UUID

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.sorting import FlowRunSort
from prefect.deployments import run_deployment
from prefect.events import emit_event
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.variables import Variable

from pii_finetune.config import RunConfig
from pii_finetune.dataset_watch import attempt_key, read_rows, wait_until_stable
from pii_finetune.errors import BadWorkbookError, SourceOutOfReachError
from pii_finetune.remote_file import shown_source
from pii_finetune.tracking import finished_run
from pii_finetune.tracking_server import require_server

TRAINING = "pii-finetune/main"
CHANGED = "pii.dataset.changed"  # said by the watcher; what others say is pii.dataset.announced: no loop


def say(text: str) -> None:
    """Tell what came of this look, in the log and as an artifact."""
    get_run_logger().info(text)
    create_markdown_artifact(text, key="dataset-watch", description="What the last look at the dataset found")


@task(name="look at the dataset")
def look(config: RunConfig, settings: str, stable_seconds: float, force: bool) -> str | None:
    """Return the fingerprint of the rows there now; None if there is nothing to do, which is said."""
    source = config.data.workbook
    seen: Any = Variable.get(_memory(settings), default={})
    mark = None
    try:
        mark = wait_until_stable(source, stable_seconds)
        if mark is not None and mark == seen.get("mark") and not force:
            get_run_logger().info("%s: not written since the last look", shown_source(source))
            return None if seen.get("problem") else seen["fingerprint"]
        rows = read_rows(config)
    except SourceOutOfReachError as error:
        say(f"Nothing is known of the rows this time, and the next look tries again: {error}")
        return None
    except BadWorkbookError as error:
        lines = "\n".join(str(error).splitlines()[:6])
        if lines != seen.get("problem"):
            say(f"Not trained on:\n\n{lines}")
            get_run_logger().warning(lines)
        _remember(settings, {"mark": mark, "problem": lines})
        return None
    for note in rows.notes:  # files of a folder that are not read, among others
        get_run_logger().info(note)
    _remember(settings, {"mark": mark, "fingerprint": rows.fingerprint})
    return rows.fingerprint


@task(name="start training, once")
def start_once(
    config: RunConfig, parameters: dict[str, Any], settings: str, fingerprint: str, force: bool
) -> UUID | None:
    """Start the training deployment unless its last attempt was on these rows; return the new flow run."""
    require_server()  # an attempt that must fail would be the last one on these rows
    last_id, last_rows = _last_attempt(settings)
    if last_id is None and not force and (run := finished_run(config, fingerprint)):
        say(
            f"The first look, and MLflow run {run} was on these rows with these settings: nothing to do; `force` "
            "trains all the same."
        )
        return None
    if last_rows == _rows_tag(fingerprint) and not force:
        say(
            f"The same rows as the last attempt ({last_id}): at most order or formatting differ. Nothing to do; "
            "`force` trains all the same."
        )
        return None
    key = attempt_key(settings, fingerprint, f"forced by {flow_run.get_id()}" if force else str(last_id))
    started: Any = run_deployment(  # typed as either kind of function; in a task it is the plain one
        TRAINING,
        parameters=parameters,
        idempotency_key=key,
        timeout=0,
        as_subflow=False,  # the watcher ends, the training goes on
        tags=["pii-watch", _settings_tag(settings), _rows_tag(fingerprint)],
    )
    emit_event(
        CHANGED,
        resource={
            "prefect.resource.id": f"pii.dataset.{settings}",
            "pii.dataset.source": shown_source(config.data.workbook),
        },
        payload={"fingerprint": fingerprint, "flow_run_id": str(started.id)},
    )
    say(f"The rows changed (fingerprint {fingerprint[:12]}): training is flow run {started.name} ({started.id}).")
    return started.id


def _last_attempt(settings: str) -> tuple[UUID | None, str | None]:
    filters = FlowRunFilter.model_validate({"tags": {"all_": ["pii-watch", _settings_tag(settings)]}})
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(flow_run_filter=filters, sort=FlowRunSort.EXPECTED_START_TIME_DESC)
        # A resumed attempt has the tags of the first one: the newest made counts.
        newest = max(runs, key=lambda run: run.created.timestamp() if run.created else 0, default=None)
    if newest is None:
        return None, None
    return newest.id, next((tag for tag in newest.tags if tag.startswith("rows:")), None)


def _memory(settings: str) -> str:
    return f"pii_watch_{hashlib.sha256(settings.encode()).hexdigest()[:12]}"


def _remember(settings: str, what: dict[str, Any]) -> None:
    Variable.set(_memory(settings), what, overwrite=True)


def _settings_tag(settings: str) -> str:
    return f"settings:{settings}"


def _rows_tag(fingerprint: str) -> str:
    return f"rows:{fingerprint[:32]}"
