"""What a run needs, and whether it is here."""

import importlib.util
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal

from packaging.requirements import Requirement

from pii_finetune.errors import MissingServerError
from pii_finetune.lock import locked_versions
from pii_finetune.paths import ROOT
from pii_finetune.tracking_server import require_server

Level = Literal["green", "yellow", "red"]
_MIN_FREE_GIB = 5


@dataclass(frozen=True)
class Check:
    """One thing looked at: what was found and, unless green, what to do."""

    name: str
    level: Level
    found: str
    remedy: str = ""


def examine() -> list[Check]:
    """Look at everything; a check that fails unexpectedly is red, never an error."""
    checks = (_python, _packages, _torch, _bitsandbytes, _base_model, _workbook, _tracking, _disk)
    return [_guarded(check) for check in checks]


def _guarded(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:  # noqa: BLE001  a doctor that dies of what it finds helps nobody
        return Check(check.__name__.strip("_"), "red", f"{type(error).__name__}: {error}", "see the message")


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    return Check("Python", "green" if sys.version_info >= (3, 11) else "red", found, "install Python 3.11 or newer")


def _packages() -> Check:
    different, missing, num_found = [], [], 0
    for name, pinned in locked_versions(ROOT).items():
        try:
            installed = version(name).partition("+")[0]
        except PackageNotFoundError:
            continue  # a tool for development, or a part of one; what a run needs is asked for by name below
        num_found += 1
        if installed != pinned:
            different.append(f"{name} {installed} (lock: {pinned})")
    for requirement in map(Requirement, requires("pii-finetune") or []):
        wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if wanted and not _is_installed(requirement.name):
            missing.append(requirement.name)
    if missing:
        return Check("packages", "red", f"missing: {', '.join(missing)}", "make install")
    if different:
        return Check("packages", "yellow", "; ".join(different[:5]), "make install puts the locked versions back")
    return Check("packages", "green", f"{num_found} at the locked versions")


def _is_installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _torch() -> Check:
    import torch

    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Check("GPU", "green", f"{torch.cuda.get_device_name()}, {memory:.0f} GiB, torch {torch.__version__}")
    return Check(
        "GPU",
        "yellow",
        f"none (torch {torch.__version__})",
        "profile embedded needs none; seed and fast need an NVIDIA GPU",
    )


def _bitsandbytes() -> Check:
    if importlib.util.find_spec("bitsandbytes") is None:
        return Check(
            "bitsandbytes",
            "yellow",
            "not installed",
            "profiles seed and fast need it: make install",
        )
    return Check("bitsandbytes", "green", version("bitsandbytes"))


def _base_model() -> Check:
    folder = ROOT / "data" / "embedded-base"
    files = [name for name in ("config.json", "model.safetensors", "tokenizer.json") if not (folder / name).is_file()]
    if files:
        return Check("embedded base", "red", f"missing: {', '.join(files)}", "git checkout data/embedded-base")
    return Check("embedded base", "green", f"{(folder / 'model.safetensors').stat().st_size / 2**20:.1f} MiB")


def _workbook() -> Check:
    path = ROOT / "data" / "PII_dataset_2.xlsx"
    return Check("workbook", "green" if path.is_file() else "red", path.name, "make data builds it")


def _tracking() -> Check:
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        store = ROOT / "mlruns" / "mlflow.db"
        if not store.exists():
            return Check("MLflow", "green", "local store in mlruns/, made by the first run")
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as database:
            num_runs = database.execute("select count(*) from runs").fetchone()[0]
        return Check("MLflow", "green", f"local store in mlruns/, {num_runs} runs")
    if not uri.startswith("http"):
        try:
            require_server()
        except MissingServerError as error:
            return Check("MLflow", "red", str(error), "correct MLFLOW_TRACKING_URI, or unset it")
        return Check("MLflow", "green", "MLFLOW_TRACKING_URI names a database that answers")
    return check_server("MLflow", uri, "MLFLOW_TRACKING_URI", "start the server, or unset the variable")


def check_server(name: str, url: str, variable: str, remedy: str) -> Check:
    """Ask the server at `url`, which `variable` names, for its health."""
    import httpx

    try:
        status = httpx.get(f"{url.rstrip('/')}/health", timeout=5).status_code
    except httpx.HTTPError as error:
        return Check(name, "red", f"no answer from {variable} ({type(error).__name__})", remedy)
    return Check(name, "green" if status == 200 else "red", f"server answers {status}", "look at the server's log")


def _disk() -> Check:
    free = shutil.disk_usage(ROOT).free / 2**30
    return Check(
        "disk",
        "green" if free >= _MIN_FREE_GIB else "yellow",
        f"{free:.0f} GiB free",
        f"a run wants {_MIN_FREE_GIB} GiB",
    )
