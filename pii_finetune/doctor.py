"""What a run needs, and whether it is here."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, requires, version

from packaging.requirements import Requirement

from pii_finetune import __version__
from pii_finetune.checks import Check, begin, guarded
from pii_finetune.doctor_base import check_embedded_base, check_hub, check_workbook
from pii_finetune.doctor_machine import check_disks, check_gpu, check_memory
from pii_finetune.doctor_tracking import check_tracking
from pii_finetune.lock import locked_versions
from pii_finetune.paths import ROOT

_SHOWN = 4
Section = tuple[str, list[Check]]


def examine() -> list[Section]:
    """Look at everything but Prefect, which this package knows nothing of; servers are asked meanwhile."""
    import huggingface_hub  # noqa: F401  imported by two threads at once, a library may be seen half imported

    if os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):
        import mlflow.utils.credentials
        import mlflow.utils.rest_utils  # noqa: F401

    hub, tracking = begin("hub", check_hub), begin("MLflow", check_tracking)
    machine = [*guarded("Python", _python), *guarded("packages", _packages)]
    for name, look in (("GPU", check_gpu), ("memory", check_memory), ("disk", check_disks)):
        machine += guarded(name, look)
    models = [*guarded("embedded base", check_embedded_base), *hub(), *guarded("workbook", check_workbook)]
    return [("this machine", machine), ("base models and data", models), ("MLflow", tracking())]


def _python() -> Check:
    found = f"{platform.python_version()}, pii-finetune {__version__}"
    return Check("Python", "green" if sys.version_info >= (3, 11) else "red", found, "install Python 3.11 or newer")


def _packages() -> list[Check]:
    different, num_found = [], 0
    for name, pinned in locked_versions(ROOT).items():
        if (installed := _installed(name)) is None:
            continue  # a tool for development, or a part of one; what a run needs is asked for by name below
        num_found += 1
        if installed.partition("+")[0] != pinned:
            different.append(f"{name} {installed} (lock: {pinned})")
    missing, unfit = _against_requirements()
    if missing:
        return [Check("packages", "red", f"missing: {', '.join(missing)}", "make install")]
    if unfit:
        return [Check("packages", "red", f"not known to work: {_first(unfit, '; ')}", "make install")]
    if different:
        return [Check("packages", "yellow", _first(different, "; "), "make install puts the locked versions back")]
    return [Check("packages", "green", f"{num_found} at the locked versions")]


def _against_requirements() -> tuple[list[str], list[str]]:
    """Return what is not here of what a run needs, and what is here in a version outside of its range."""
    missing, unfit = [], []
    for requirement in map(Requirement, requires("pii-finetune") or []):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        installed = _installed(requirement.name)
        if installed is None:
            missing.append(requirement.name)
        elif not requirement.specifier.contains(installed, prereleases=True):
            unfit.append(f"{requirement.name} {installed} (needed: {requirement.specifier})")
    return missing, unfit


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _first(items: list[str], separator: str) -> str:
    more = f"{separator}and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return separator.join(items[:_SHOWN]) + more
