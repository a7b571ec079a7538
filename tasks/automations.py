"""What Prefect's server does by itself about runs that die: made, or brought up to date, by name."""

import os
from datetime import timedelta
from typing import Any

from prefect.client.orchestration import get_client
from prefect.events.actions import ChangeFlowRunState, RunDeployment
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.states import StateType

SILENT = "pii-finetune: a silent run is crashed"
UNBEGUN = "pii-finetune: a run that does not begin is crashed"
RESUME = "pii-finetune: a crashed run is resumed"
NAMES = (SILENT, UNBEGUN, RESUME)
RESUMER = "pii-resume/main"

_HEARTBEAT = "prefect.flow-run.heartbeat"
_ENDED = {f"prefect.flow-run.{name}" for name in ("Completed", "Failed", "Cancelled", "Crashed")}
_CLAIMED = "prefect.flow-run.Pending"  # by a worker, which then starts its process
_BEGUN = {f"prefect.flow-run.{name}" for name in ("Running", "AwaitingConcurrencySlot", "Scheduled", "Cancelling")}
_RUN: dict[str, Any] = {"prefect.resource.id": "prefect.flow-run.*"}
_FLOWS = ["pii-finetune", "pii-resume", "pii-score", "pii-sweep", "pii-trial", "pii-watch"]


def ensure_automations() -> None:
    """Create the automations, or update those of these names; the deployments must be there.

    PII_FINETUNE_SILENT_SECONDS says how long a run may be silent, or claimed by a worker and not begun, by default 180.
    Heartbeats come every 30 s; a server that is away for a minute, and starts again, must not take those that it missed
    for a death.
    """
    with get_client(sync_client=True) as client:
        resumer = client.read_deployment_by_name(RESUMER).id
        silent = timedelta(seconds=float(os.environ.get("PII_FINETUNE_SILENT_SECONDS", "180")))
        for automation in (_silent(silent), _unbegun(silent), _resume(resumer)):
            existing = client.read_automations_by_name(automation.name)
            if not existing:
                client.create_automation(automation)
            elif not _is_as(existing[0], automation):  # an update forgets which runs have fallen silent
                client.update_automation(existing[0].id, automation)


def missing_automations() -> list[str]:
    """Return the names of those that are not there, or not enabled."""
    with get_client(sync_client=True) as client:
        return [name for name in NAMES if not any(each.enabled for each in client.read_automations_by_name(name))]


def _is_as(existing: Automation, wanted: AutomationCore) -> bool:
    """Whether there is nothing to update; the server fills in defaults and ids."""
    parts = {"description", "enabled", "trigger", "actions"}
    return existing.model_dump(include=parts) == wanted.model_dump(include=parts)


def _silent(within: timedelta) -> AutomationCore:
    return AutomationCore(
        name=SILENT,
        description="Its heartbeats ended and no final state came: its process or its host is gone.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match=ResourceSpecification(_RUN),
            for_each={"prefect.resource.id"},
            after={_HEARTBEAT},
            expect={_HEARTBEAT, *_ENDED},
            threshold=1,
            within=within,
        ),
        actions=[_crash("No heartbeat: the process, or its host, is gone.")],
    )


def _unbegun(within: timedelta) -> AutomationCore:
    return AutomationCore(
        name=UNBEGUN,
        description="A worker claimed it and it never began, so it has no heartbeat to miss: its host is gone.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match=ResourceSpecification(_RUN),
            match_related=_of_flows(_FLOWS),
            for_each={"prefect.resource.id"},
            after={_CLAIMED},
            expect={*_BEGUN, *_ENDED},
            threshold=1,
            within=within,
        ),
        actions=[_crash("It was claimed and did not begin: the process, or its host, is gone.")],
    )


def _crash(message: str) -> ChangeFlowRunState:
    return ChangeFlowRunState(force=False, state=StateType.CRASHED, name="Crashed", message=message)


def _of_flows(names: list[str]) -> ResourceSpecification:
    return ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": names})


def _resume(resumer: Any) -> AutomationCore:
    return AutomationCore(
        name=RESUME,
        description="Starts pii-resume/main, which counts the attempts and waits longer before each.",
        trigger=EventTrigger(
            posture=Posture.Reactive,
            match=ResourceSpecification(_RUN),
            match_related=_of_flows(["pii-finetune", "pii-resume", "pii-sweep"]),
            for_each={"prefect.resource.id"},
            expect={"prefect.flow-run.Crashed"},
            threshold=1,
        ),
        # Prefect turns an expression into JSON, which a UUID is not: hence `| string`.
        actions=[
            RunDeployment(
                source="selected",
                deployment_id=resumer,
                parameters={"flow_run_id": "{{ flow_run.id | string }}"},
                job_variables=None,
            )
        ],
    )
