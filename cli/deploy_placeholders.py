"""The `{{ ... }}` of prefect.yaml: Prefect puts nothing in the place of one that has no value, without a word."""

import os
from collections.abc import Iterator
from typing import Any

from prefect.utilities.templating import Placeholder, PlaceholderType, find_placeholders

from cli.deploy_file import DeployFile, Key
from cli.deploy_steps import steps
from pii_finetune.checks import Check

_EVENT = "parameters"  # of a trigger: its placeholders are the event's


def check_placeholders(file: DeployFile) -> list[Check]:
    """Return a fault for each variable that is not set, and for each output that no step gives."""
    faults = []
    for at, placeholder in _placeholders(file):
        if placeholder.type is PlaceholderType.ENV_VAR:
            name = placeholder.name.removeprefix("$")
            if name in os.environ:
                continue
            if "pull" in at:  # left as it is for the worker, as long as it is not set
                told = f"{name} is not set here, and left to the worker, which reads it when a run begins"
                faults.append(file.fault(at, told, f"see that {name} is set where the worker runs", "yellow"))
            else:
                faults.append(
                    file.fault(at, f"{name} is not set, and nothing would stand in its place", f"export {name}=...")
                )
        elif placeholder.type is PlaceholderType.STANDARD and not _is_given(file, at, placeholder.name):
            told = f"{placeholder.full_match} is the output of no build or push step, and would be left out"
            faults.append(file.fault(at, told, "correct it, or write {{ $NAME }} for a variable of the environment"))
    return faults


def _placeholders(file: DeployFile) -> Iterator[tuple[Key, Placeholder]]:
    for name in ("build", "push", "pull", "deployments"):
        yield from _within(file.values.get(name), (name,))


def _within(value: Any, at: Key) -> Iterator[tuple[Key, Placeholder]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if not (name == _EVENT and "triggers" in at):
                yield from _within(inner, (*at, name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _within(inner, (*at, number))
    elif isinstance(value, str):
        for placeholder in sorted(find_placeholders(value)):
            yield at, placeholder


def _is_given(file: DeployFile, at: Key, name: str) -> bool:
    """Whether some step runs before that may give it; what steps give is known only when they have run."""
    if name.startswith("ctx.") or "pull" in at:  # put in when a run begins
        return True
    return any(place[0] != "deployments" or place[:2] == at[:2] for place, _ in steps(file, ("build", "push")))
