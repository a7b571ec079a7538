"""Which process a run belongs to, and whether it still lives."""

import os
import socket
from collections.abc import Mapping

import psutil


def own_process() -> dict[str, str]:
    """Return the tags that name this process: numbers are given anew, so its start is one of them."""
    created = str(psutil.Process().create_time())
    return {"host": socket.gethostname(), "pid": str(os.getpid()), "process_started": created}


def may_live(tags: Mapping[str, str]) -> bool:
    """Whether the process these tags name lives, as far as can be seen from here: on another host it may."""
    if tags.get("host") != socket.gethostname():
        return "host" in tags
    try:
        return str(psutil.Process(int(tags["pid"])).create_time()) == tags["process_started"]
    except (psutil.NoSuchProcess, KeyError, ValueError):
        return False
