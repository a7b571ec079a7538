"""Which process a run belongs to, and whether it still lives."""

import os
import socket
from collections.abc import Mapping

import psutil

_CLOCK_SECONDS = 2.0


def own_process() -> dict[str, str]:
    """Return the tags that name this process: numbers are given anew, so its start is one of them."""
    created = str(psutil.Process().create_time())
    return {"host": socket.gethostname(), "pid": str(os.getpid()), "process_started": created}


def names_process_here(tags: Mapping[str, str]) -> bool:
    """Return whether the tags name a process of this host."""
    return tags.get("host") == socket.gethostname() and {"pid", "process_started"} <= set(tags)


def may_live(tags: Mapping[str, str]) -> bool:
    """Whether the process these tags name lives, as far as can be seen from here: on another host it may."""
    if names_process_here(tags):
        return is_alive(int(tags["pid"]), float(tags["process_started"]))
    return tags.get("host", socket.gethostname()) != socket.gethostname()


def is_alive(pid: int, started: float) -> bool:
    """Return whether the process with this id is the one that started then, and not a zombie or a namesake.

    Of one that may not be looked at, because it is another user's, only its being there is known: it counts as alive.
    """
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < _CLOCK_SECONDS and process.status() != psutil.STATUS_ZOMBIE
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return _is_hidden(pid)


def _is_hidden(pid: int) -> bool:
    """Whether another user has a process of this id that /proc does not show (mounted with hidepid)."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return False  # one's own is always shown: it ended a moment ago
