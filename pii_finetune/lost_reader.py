"""A process that goes on when nobody reads its output any more."""

import os
import select
import stat
import threading


def outlive_readers() -> None:
    """Send standard output and error to nowhere from the moment their reader dies.

    A flow writes into pipes that its worker reads. When the worker is killed, the next `print`, of MLflow for one,
    would raise BrokenPipeError in the midst of a training that has nothing to do with it. What is logged goes to
    Prefect by another way.
    """
    pipes = [number for number in (1, 2) if _is_pipe(number)]
    if pipes:
        threading.Thread(target=_watch, args=(pipes,), name="outlive-readers", daemon=True).start()


def _watch(pipes: list[int]) -> None:
    poll = select.poll()
    for number in pipes:
        poll.register(number, 0)  # nothing asked for: what comes is POLLERR, the end of the reader
    while pipes:
        for number, _ in poll.poll():
            poll.unregister(number)
            pipes.remove(number)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)


def _is_pipe(number: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(number).st_mode)
    except OSError:
        return False
