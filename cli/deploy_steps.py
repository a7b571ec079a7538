"""The steps of prefect.yaml: functions that can be imported, with arguments that they take."""

import inspect
from collections.abc import Iterator
from typing import Any

from prefect.deployments.steps.core import RESERVED_KEYWORDS
from prefect.utilities.importtools import import_object

from cli.deploy_file import DeployFile, Key
from cli.deploy_keys import nearest
from pii_finetune.checks import Check

_KINDS = ("build", "push", "pull")


def check_steps(file: DeployFile) -> list[Check]:
    """Return what is wrong with the steps, those of the whole file and those of each deployment."""
    faults = []
    for at, step in steps(file):
        if not isinstance(step, dict) or len(step) != 1:
            faults.append(
                file.fault(at, "a step is one function with its arguments below it", "indent them, or split it")
            )
            continue
        name, given = next(iter(step.items()))
        faults += _check_step(file, (*at, name), str(name), given or {})
    return faults


def steps(file: DeployFile, kinds: tuple[str, ...] = _KINDS) -> Iterator[tuple[Key, Any]]:
    """Yield every step with its place; one may stand alone, without a list."""
    deployments = file.values.get("deployments")
    owners: list[tuple[Key, Any]] = [((), file.values)]
    owners += [
        (("deployments", i), each) for i, each in enumerate(deployments if isinstance(deployments, list) else ())
    ]
    for at, owner in owners:
        for kind in kinds:
            given = owner.get(kind) if isinstance(owner, dict) else None
            if isinstance(given, dict) and given:
                yield (*at, kind), given
            for number, step in enumerate(given if isinstance(given, list) else ()):
                if step:
                    yield (*at, kind, number), step


def _check_step(file: DeployFile, at: Key, name: str, given: Any) -> Iterator[Check]:
    if not isinstance(given, dict):
        yield file.fault(at, "its arguments are no keys", "write them below it, one a line")
        return
    try:
        function = import_object(name)
        parameters = inspect.signature(function).parameters
    except Exception as error:  # noqa: BLE001  importing runs what is there
        if given.get("requires"):
            problem = f"not installed here, where Prefect would install {given['requires']}"
            yield file.fault(at, problem, "install it here too, to have the step looked at", "yellow")
        else:
            yield file.fault(
                at, f"cannot be imported ({type(error).__name__}: {error})", "correct the name, or install it"
            )
        return
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        return
    known = sorted({*parameters, *RESERVED_KEYWORDS})
    for argument in given.keys() - set(known):
        yield file.fault((*at, argument), f"{name} takes no such argument{nearest(argument, known)}", "correct it")
    for argument, each in parameters.items():
        if each.default is inspect.Parameter.empty and argument not in given:
            yield file.fault(at, f"it needs the argument {argument}", "give it")
