"""What the deployments of prefect.yaml name: flows that can be imported, parameters they take, schedules, a pool."""

from collections.abc import Iterator
from typing import Any

import prefect
from prefect.cli.deploy._schedules import _schedule_config_to_deployment_schedule
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.exceptions import MissingFlowError
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.settings import get_current_settings
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools import validate
from prefect.utilities.templating import find_placeholders
from pydantic import ValidationError

from cli.deploy_file import DeployFile, Key
from cli.deploy_keys import nearest
from pii_finetune.checks import Check

AnyFlow = Flow[Any, Any]


def check_version(file: DeployFile) -> list[Check]:
    """Compare the version that the file was written for with the one that reads it."""
    written_for = file.values.get("prefect-version")
    if written_for is None or str(written_for) == prefect.__version__:
        return []
    found = f"{written_for}, and installed is {prefect.__version__}"
    return [file.fault(("prefect-version",), found, "write the version that deploys, or install that one", "yellow")]


def check_deployments(file: DeployFile) -> list[Check]:
    """Return what is wrong with what each deployment names."""
    deployments = file.values.get("deployments")
    if not isinstance(deployments, list) or not deployments:
        return [file.fault(("deployments",), "there are none", "write at least one")]
    faults, names = [], {}
    for number, deployment in enumerate(deployments):
        at: Key = ("deployments", number)
        if not isinstance(deployment, dict):
            faults.append(file.fault(at, "a deployment is keys and values", "write them one a line"))
            continue
        faults += _unnamed(file, at, deployment)
        flow = None
        if isinstance(entrypoint := deployment.get("entrypoint"), str) and not find_placeholders(entrypoint):
            flow, trouble = load_flow(entrypoint)
            faults += [file.fault((*at, "entrypoint"), trouble, "correct it")] if trouble else []
        full_name = (flow.name if flow else entrypoint, deployment.get("name"))
        if full_name in names:
            problem = f"line {names[full_name]} has {full_name[0]}/{full_name[1]} too: the later one overwrites it"
            faults.append(file.fault((*at, "name"), problem, "give each a name of its own"))
        names.setdefault(full_name, file.lines.get((*at, "name"), 0))
        faults += _check_schedules(file, at, deployment)
        if flow is not None:
            faults += _check_parameters(file, at, deployment, flow)
    return faults


def load_flow(entrypoint: str) -> tuple[AnyFlow | None, str]:
    """Return the flow, imported and not read off its source as Prefect does where that fails; or why not."""
    try:
        return load_flow_from_entrypoint(entrypoint, use_placeholder_flow=False), ""
    except (Exception, SystemExit) as error:  # noqa: BLE001  importing runs what is there
        cause = error.__cause__ or error.__context__ or error
        if isinstance(error, MissingFlowError):
            return None, f"{entrypoint}: {str(error).strip()}"
        if isinstance(cause, FileNotFoundError):
            return None, f"{entrypoint}: there is no such file"
        return None, f"{entrypoint}: cannot be imported ({type(cause).__name__}: {str(cause).strip()[:200]})"


def _unnamed(file: DeployFile, at: Key, deployment: dict[str, Any]) -> Iterator[Check]:
    if not deployment.get("name"):
        yield file.fault(at, "has no name, so that `prefect deploy --all` leaves it out", "name it")
    if not deployment.get("entrypoint"):
        yield file.fault(at, "has no entrypoint", "entrypoint: path/to/file.py:flow")
    pool = deployment.get("work_pool")
    named = isinstance(pool, dict) and pool.get("name")
    if not named and not get_current_settings().deployments.default_work_pool_name:
        yield file.fault(at, "names no work pool", "work_pool: {name: ...}")


def _check_schedules(file: DeployFile, at: Key, deployment: dict[str, Any]) -> Iterator[Check]:
    schedules = deployment.get("schedules")
    for number, schedule in enumerate(schedules if isinstance(schedules, list) else ()):
        if not isinstance(schedule, dict) or not schedule or "schedule" in schedule or find_placeholders(schedule):
            continue
        try:
            DeploymentScheduleCreate(**_schedule_config_to_deployment_schedule(schedule))
        except Exception as error:  # noqa: BLE001  croniter, dateutil and pydantic have errors of their own
            reason = _reason(error)
            kind = next((each for each in ("cron", "interval", "rrule") if each in schedule), None)
            place = (*at, "schedules", number, *([kind] if kind else []))
            yield file.fault(place, f"is no schedule ({reason})", "correct it")


def _check_parameters(file: DeployFile, at: Key, deployment: dict[str, Any], flow: AnyFlow) -> Iterator[Check]:
    given = _mapping(deployment.get("parameters"))
    yield from _validate(file, (*at, "parameters"), given, flow)
    for kind, switch in (("schedules", "active"), ("triggers", "enabled")):
        items = deployment.get(kind)
        for number, item in enumerate(items if isinstance(items, list) else ()):
            if not isinstance(item, dict):
                continue
            own = _mapping(item.get("parameters"))
            yield from _validate(file, (*at, kind, number, "parameters"), own, flow)
            lacking = sorted(set(parameter_schema(flow).required) - {*given, *own})
            if lacking and item.get(switch, True) is not False:
                problem = f"{flow.name} cannot begin without {', '.join(lacking)}, which nothing here gives"
                yield file.fault((*at, kind, number), problem, "give it in parameters")


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}  # of another kind: cli.deploy_keys tells


def _validate(file: DeployFile, at: Key, given: dict[str, Any], flow: AnyFlow) -> Iterator[Check]:
    """Ask for each parameter what the server asks; those that a person gives later may be missing."""
    schema = parameter_schema(flow)
    known = list(schema.properties)
    for name in given.keys() - set(known):
        yield file.fault((*at, name), f"{flow.name} has no such parameter{nearest(str(name), known)}", "correct it")
    fixed = {name: each for name, each in given.items() if name in known and not find_placeholders(each)}
    refused = False
    for error in validate(fixed, schema.model_dump(exclude_unset=True), ignore_required=True):
        refused = True
        yield file.fault((*at, *error.absolute_path), error.message, "give a value the flow takes")
    if not refused and not (set(schema.required) | given.keys()) - fixed.keys():
        try:
            flow.validate_parameters(fixed)
        except Exception as error:  # noqa: BLE001  validators are the flow's own
            yield file.fault(at, _reason(error), "give values the flow takes")


def _reason(error: Exception) -> str:
    """Return the one line of an error that says why; pydantic's first names its model."""
    if isinstance(error, ValidationError):
        return error.errors()[0]["msg"]
    return " ".join(str(error).split())[:200]
