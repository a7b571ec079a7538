"""The next attempt at a crashed run."""

import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psutil
from prefect import task
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.deployments import run_deployment
from prefect.logging import get_run_logger

from tasks.flow_processes import find_flow_processes

_TAG = "resume-attempt:"
_MOST_FOLLOWED = 3  # a host on which not even this can run needs a person


@task(name="schedule the next attempt")
def schedule_next(flow_run_id: UUID) -> UUID | None:
    """Schedule a run of the same deployment with the same parameters; None, and the reason said, if none is due.

    PII_FINETUNE_RESUME_ATTEMPTS (3) bounds them; the first waits PII_FINETUNE_RESUME_DELAY_SECONDS (60), each later one
    twice as long as the one before. Told twice of one crash, it schedules one run.
    """
    logger = get_run_logger()
    crashed = _meant(flow_run_id)
    attempt = _attempt_of(crashed) + 1
    most = int(os.environ.get("PII_FINETUNE_RESUME_ATTEMPTS", "3"))
    if crashed.state is None or not crashed.state.is_crashed():
        logger.info("%s is not crashed (any more): nothing to resume", crashed.name)
        return None
    if "flow_run_id" in crashed.parameters:
        logger.warning("pii-resume itself crashed %d times in a row: mend its host, then start the run", _MOST_FOLLOWED)
        return None
    if crashed.deployment_id is None:
        logger.info("%s was started by hand, without a deployment: start it again to resume it", crashed.name)
        return None
    if attempt > most:
        logger.warning(
            "%s crashed after %d resumed attempts: look at its log, then start it by hand", crashed.name, most
        )
        return None
    _stop_if_it_lives(crashed)
    delay = delay_before(attempt)
    # Tags say what a run is of (a watcher's attempt, which rows) and count; those of before stay.
    tags = [tag for tag in crashed.tags if not tag.startswith(_TAG)]
    started: Any = run_deployment(  # typed as either kind of function; in a task it is the plain one
        crashed.deployment_id,
        parameters=crashed.parameters,
        scheduled_time=datetime.now(UTC) + delay,
        idempotency_key=f"resume:{crashed.id}",
        timeout=0,
        as_subflow=False,
        tags=[*tags, f"{_TAG}{attempt}"],
    )
    logger.info("%s crashed: attempt %d of %d, %s, starts in %s", crashed.name, attempt, most, started.name, delay)
    return started.id


def _meant(flow_run_id: UUID) -> FlowRun:
    """Return the training that crashed; if it is a run of this very flow that did, the one that this was told of."""
    with get_client(sync_client=True) as client:
        crashed = client.read_flow_run(flow_run_id)
        for _ in range(_MOST_FOLLOWED):
            if "flow_run_id" not in crashed.parameters:
                break
            crashed = client.read_flow_run(UUID(str(crashed.parameters["flow_run_id"])))
    return crashed


def delay_before(attempt: int) -> timedelta:
    """Return how long an attempt, counted from 1, waits before it starts."""
    return timedelta(seconds=float(os.environ.get("PII_FINETUNE_RESUME_DELAY_SECONDS", "60")) * 2 ** (attempt - 1))


def _stop_if_it_lives(crashed: FlowRun) -> None:
    """Tell a process that is on this host after all to stop, with a checkpoint: its slot is another's already.

    A run that a server was away from for too long is called silent, and so crashed, when the server is back.
    """
    process = find_flow_processes().by_run.get(str(crashed.id))
    if process is not None:
        get_run_logger().warning("%s lives, as process %d: it is told to stop", crashed.name, process.pid)
        with suppress(psutil.Error):
            process.terminate()


def _attempt_of(run: FlowRun) -> int:
    return max((int(tag.removeprefix(_TAG)) for tag in run.tags if tag.startswith(_TAG)), default=0)
