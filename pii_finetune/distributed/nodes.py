"""Training on several machines that share nothing but a network.

The first machine, where the run is, serves a store at the rendezvous; the others take the job from it, and each then
starts its own agent. Checkpoints are on the first machine: where a training goes on, it sends them the newest.
"""

import contextlib
import json
import os
import socket
import time
from datetime import timedelta
from pathlib import Path

import psutil
import torch.distributed as dist

from pii_finetune.code_version import code_parts
from pii_finetune.config import RuntimeConfig
from pii_finetune.distributed.job import Job, as_text, job_from
from pii_finetune.distributed.ranks import num_ranks, rank
from pii_finetune.errors import MissingServerError, OtherCodeError

_JOB, _CODE, _REFUSED = "pii-finetune/job", "pii-finetune/code", "pii-finetune/refused"
_POLL_SECONDS = 1.0


def meeting_point(runtime: RuntimeConfig) -> str | None:
    """Return where machines meet, host:port, or None if there is one only."""
    return runtime.rendezvous if runtime.num_nodes > 1 else None


def serve_job(job: Job, rendezvous: str) -> dist.Store:
    """Let other machines have the job, for as long as the store that is returned lives."""
    host, port = rendezvous.rsplit(":", 1)
    # Several in one process share one: the agent's rendezvous is held in the same.
    store = dist.TCPStore(host, int(port), None, is_master=True, wait_for_workers=False, multi_tenant=True)
    store.set(_CODE, json.dumps(dict(code_parts())))
    store.set(_JOB, as_text(job, with_start=True))
    return store


def refused(store: dist.Store) -> str | None:
    """Return why another machine does not take the job, if one said so; once."""
    if not store.check([_REFUSED]):
        return None
    told = store.get(_REFUSED).decode()
    store.delete_key(_REFUSED)
    return told


def next_job(rendezvous: str, folder: Path, seen: str | None, patience_seconds: float) -> tuple[Job, str]:
    """Wait for the first machine to offer a job that is not the one seen, and put what it needs into the folder.

    Raises:
        OtherCodeError: its code is not this machine's; it is told so too.
        MissingServerError: it did not within that time.
    """
    host, port = rendezvous.rsplit(":", 1)
    until = time.monotonic() + patience_seconds
    while time.monotonic() < until:
        with contextlib.suppress(OSError, RuntimeError):
            # PyTorch's store says at length what is no error: that nobody is there yet.
            socket.create_connection((host, int(port)), timeout=5).close()
            store = dist.TCPStore(
                host, int(port), None, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=5)
            )
            text = store.get(_JOB).decode()
            _require_same_code(store, rendezvous)
            job = job_from(text, folder)
            if job.identity != seen:
                return job, job.identity
        time.sleep(_POLL_SECONDS)
    raise MissingServerError(
        f"{rendezvous}: no training waits there for other machines, for {patience_seconds:g} s; start it with "
        f"runtime.num_nodes above 1 and runtime.rendezvous={rendezvous}, on the machine of that address"
    )


def _require_same_code(store: dist.Store, rendezvous: str) -> None:
    here = code_parts()
    there = json.loads(store.get(_CODE)) if store.check([_CODE]) else {}
    own_name = socket.gethostname()
    differing = [
        f"{name} is {here[name]} on {own_name} and {there.get(name, 'not known')} on {rendezvous}"
        for name in here
        if here[name] != there.get(name)
    ]
    if not differing:
        return
    told = (
        f"{own_name} cannot join the training of {rendezvous}, for their code differs: {', '.join(differing)}; "
        "install the same revision and the same requirements.lock on both, and start both again"
    )
    store.set(_REFUSED, told)
    raise OtherCodeError(told)


def own_address(rendezvous: str) -> str:
    """Return this machine's address on the network on which the rendezvous is."""
    host, port = rendezvous.rsplit(":", 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, int(port)))  # sends nothing
        return probe.getsockname()[0]


def interface_of(address: str) -> str | None:
    """Return the name of the network interface that has this address; None if there is none."""
    for name, addresses in psutil.net_if_addrs().items():
        if any(each.address == address for each in addresses):
            return name
    return None


def everywhere(checkpoint: Path | None, folder: Path) -> Path | None:
    """Return the first machine's newest checkpoint, as a folder that is here too; all processes must ask.

    Args:
        checkpoint: what this process found.
        folder: where this process keeps checkpoints.
    """
    if num_ranks() == 1:
        return checkpoint
    name = None if checkpoint is None else checkpoint.name
    names: list[str | None] = [None] * num_ranks()
    dist.all_gather_object(names, name)
    if names[0] is None or all(each == names[0] for each in names):
        return None if names[0] is None else folder / names[0]
    sent: list[dict[str, bytes] | None] = [None]
    if rank() == 0 and checkpoint is not None:
        sent = [{str(p.relative_to(checkpoint)): p.read_bytes() for p in checkpoint.rglob("*") if p.is_file()}]
    dist.broadcast_object_list(sent, src=0)
    target = folder / names[0]
    if name != names[0] and os.environ.get("LOCAL_RANK") == "0":
        for relative, content in (sent[0] or {}).items():
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
            (target / relative).write_bytes(content)
    dist.barrier()
    return target
