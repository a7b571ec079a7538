"""Keys of prefect.yaml that Prefect does not know, and would ignore without a word: asked of its own models."""

from collections.abc import Iterator
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from prefect.cli.deploy._models import DeploymentConfig, PrefectYamlModel
from prefect.cli.deploy._triggers import DeploymentTriggerAdapter
from prefect.events import DeploymentTriggerTypes
from pydantic import BaseModel, RootModel, ValidationError

from cli.deploy_file import DeployFile, Key
from pii_finetune.checks import Check

# Prefect leaves these to be read later, with these models.
_READ_LATER: dict[tuple[type[BaseModel], str], Any] = {(DeploymentConfig, "triggers"): list[DeploymentTriggerTypes]}
_STEPS = ("build", "push", "pull")  # cli.deploy_steps looks at these


def check_keys(file: DeployFile) -> list[Check]:
    """Return a fault for each unknown key, repeated key, and value that is not of its key's kind."""
    faults = [
        file.fault(key, "stands here more than once, and the last one counts", "keep one of them")
        for key in file.repeated
    ]
    unknown = list(_unknown(file, file.values, PrefectYamlModel, ()))
    faults += [
        file.fault(
            at, f"Prefect knows no such key and ignores it{nearest(str(at[-1]), known)}", "correct it, or drop it"
        )
        for at, known in unknown
    ]
    accounted = [at for at, _ in unknown]
    for at, message in _of_other_kind(file):
        if not any(at[: len(key)] == key or key[: len(at)] == at for key in accounted):
            faults.append(file.fault(at, message, "give a value of that kind"))
            accounted.append(at)
    return faults


def nearest(name: str, known: list[str]) -> str:
    """Return, to end a sentence with, what the name may have been meant to be, or else what there is."""
    if close := get_close_matches(name, known, 1, 0.6):
        return f" (did you mean {close[0]}?)"
    return f" (known here: {', '.join(known)})" if known else ""


def _unknown(file: DeployFile, value: Any, annotation: Any, at: Key) -> Iterator[tuple[Key, list[str]]]:
    """Yield the place of each unknown key, with those known there."""
    kinds = _kinds(annotation)
    if isinstance(value, list):
        inner = next((get_args(kind)[0] for kind in kinds if get_origin(kind) is list), Any)
        for number, each in enumerate(value):
            yield from _unknown(file, each, inner, (*at, number))
    models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    # Names below a root model, such as those of an event's resource, are free.
    if not isinstance(value, dict) or not models or issubclass(models[0], RootModel):
        return
    # Where several are possible, as for schedules, the one meant is the one that knows most of what is there.
    fields = min(map(_fields, models), key=lambda each: len(value.keys() - each.keys()))
    for name, each in value.items():
        if name in fields and name not in _STEPS:
            yield from _unknown(file, each, fields[name], (*at, name))
        elif name not in fields and (at or name not in file.for_anchors):
            yield (*at, name), sorted(fields)


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    """Return the kind of each key."""
    model.model_rebuild()  # Prefect names some models before they are written
    kinds = {}
    for name, field in model.model_fields.items():
        kind = _READ_LATER.get((model, name), field.annotation)
        kinds[field.alias or name] = kind
    return kinds


def _kinds(annotation: Any) -> list[Any]:
    """Return what an annotation allows, one by one."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [kind for each in get_args(annotation) for kind in _kinds(each)]
    return [annotation]


def _of_other_kind(file: DeployFile) -> Iterator[tuple[Key, str]]:
    """Yield what Prefect's models say of the values."""
    try:
        PrefectYamlModel.model_validate(file.values)
    except ValidationError as error:
        for each in error.errors():
            yield _place(file, each["loc"]), each["msg"]
    for at, trigger in _triggers(file.values):
        try:
            DeploymentTriggerAdapter.validate_python(trigger)
        except ValidationError as error:
            for each in error.errors():
                yield _place(file, (*at, *each["loc"][1:])), each["msg"]  # the first part is the kind of trigger


def _triggers(values: dict[str, Any]) -> Iterator[tuple[Key, Any]]:
    deployments = values.get("deployments")
    for number, deployment in enumerate(deployments if isinstance(deployments, list) else ()):
        triggers = deployment.get("triggers") if isinstance(deployment, dict) else None
        for index, trigger in enumerate(triggers if isinstance(triggers, list) else ()):
            yield ("deployments", number, "triggers", index), trigger


def _place(file: DeployFile, location: tuple[str | int, ...]) -> Key:
    """Return the place in the file: among pydantic's steps are names of models, which it does not have."""
    at: Key = ()
    for step in location:
        if (*at, step) in file.lines:
            at = (*at, step)
    return at
