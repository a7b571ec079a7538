"""Environment variables that Prefect and MLflow read, written almost right: both ignore what they do not know."""

import os
from collections.abc import Iterable
from difflib import get_close_matches

from pii_finetune.checks import Check


def check_variables() -> list[Check]:
    """Return a note for each variable whose name is close to a known one; values are not shown."""
    checks = []
    for prefix, known in (("PREFECT_", _of_prefect), ("MLFLOW_", _of_mlflow)):
        mine = [name for name in os.environ if name.startswith(prefix)]
        names = set(known()) if mine else set()
        for name in sorted(mine):
            if name not in names and (close := get_close_matches(name, names, 1, 0.9)):
                told = f"{name} is nothing that is read (did you mean {close[0]}?)"
                checks.append(Check("environment", "yellow", told, "correct the name, or unset it"))
    return checks


def _of_prefect() -> Iterable[str]:
    from prefect.settings import Settings
    from prefect.settings.legacy import _get_settings_fields

    return {*_get_settings_fields(Settings), "PREFECT_PROFILE"}


def _of_mlflow() -> Iterable[str]:
    from mlflow import environment_variables

    named = (getattr(each, "name", None) for each in vars(environment_variables).values())
    return {"MLFLOW_UI_URL", *(name for name in named if isinstance(name, str))}  # the first is ours
