"""Processes of this host that run flows."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psutil

# What a worker starts first becomes the second by exec; the third is what Prefect starts from within a flow.
_MODULES = ("prefect.runner._workspace_supervisor", "prefect.engine", "prefect.flow_engine")
_IDS = ("PREFECT__FLOW_RUN_ID", "PREFECT_FLOW_RUN_ID")


@dataclass(frozen=True)
class FlowProcesses:
    """What was found, and whether that is all: another user's flow may be seen without its run being told."""

    by_run: Mapping[str, psutil.Process]
    is_complete: bool


def runs_a_flow(process: psutil.Process) -> bool:
    """Return whether the process lives and is one in which a flow runs, or will at once; a zombie has no arguments."""
    try:
        return any(argument in _MODULES for argument in process.cmdline())
    except psutil.Error:
        return False


def find_flow_processes() -> FlowProcesses:
    """Look at every process of this host."""
    # Where /proc is mounted with hidepid, the processes of others are not to be seen at all: not even the first.
    is_complete = not Path("/proc/self").exists() or Path("/proc/1").exists()
    found: dict[str, psutil.Process] = {}
    for process in psutil.process_iter():
        try:
            if not runs_a_flow(process) or process.status() == psutil.STATUS_ZOMBIE:
                continue
            environment = process.environ()
        except psutil.NoSuchProcess:
            continue
        except (psutil.AccessDenied, OSError):
            is_complete = False
            continue
        for name in _IDS:
            with suppress(ValueError):
                found[str(UUID(environment.get(name, "")))] = process
    return FlowProcesses(found, is_complete)
