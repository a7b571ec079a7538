"""One more machine for the trainings that another one runs."""

import logging
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from pii_finetune.distributed.launch import launched
from pii_finetune.distributed.messages import understand
from pii_finetune.distributed.nodes import next_job
from pii_finetune.errors import BadConfigError, MissingServerError


def join_trainings(rendezvous: str, patience_seconds: float, say: Callable[[str], None]) -> int:
    """Take part in every training that is offered there, until none is for so long; return how many there were.

    Args:
        rendezvous: host:port of the machine where the run is, its `runtime.rendezvous`.
        patience_seconds: how long to wait for the next training.
        say: gets what there is to tell, line by line.

    Raises:
        BadConfigError: this is no host and port.
        OtherCodeError: the machine there has another version of this package, or of what it trains with.
        MissingServerError: none was offered at all.
    """
    if not re.fullmatch(r"\S+:\d+", rendezvous):
        raise BadConfigError(
            f"{rendezvous!r} is not HOST:PORT; give the run's runtime.rendezvous, e.g. first.host:29400"
        )
    num_joined, seen = 0, None
    while True:
        with tempfile.TemporaryDirectory(prefix="pii-finetune-") as folder:
            try:
                job, seen = next_job(rendezvous, Path(folder), seen, patience_seconds)
            except MissingServerError:
                if num_joined:
                    return num_joined
                raise
            say(f"{job.stage.upper()}: {job.config.runtime.num_here} of {job.config.runtime.num_processes} processes")
            with launched(job) as process:
                for line in process.stdout or ():
                    message = understand(line)
                    if message is not None and message[0] in ("log", "error") and message[1][0] != logging.DEBUG:
                        say(message[1][1])
                ended = process.wait()
            say(f"{job.stage.upper()}: {'done' if ended == 0 else 'ended by an error'}")
            num_joined += 1
