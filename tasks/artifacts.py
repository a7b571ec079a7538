"""What Prefect's pages show of a run beside its states: no task waits long for it, or fails for want of it."""

import contextvars
import queue
import threading
from collections.abc import Callable
from typing import ParamSpec

from prefect.logging import get_run_logger

P = ParamSpec("P")

_WAIT_SECONDS = 2.0
_SETTLE_SECONDS = 10.0


class _Sender:
    """Makes calls one after the other in a thread of its own. Prefect's client tries each for minutes."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], None], threading.Event]] = queue.SimpleQueue()
        self._is_stuck = False
        threading.Thread(target=self._work, name="artifacts", daemon=True).start()

    def send(self, call: Callable[[], None], *, wait: bool) -> None:
        """Make the call after those before it; wait two seconds for it, unless one before was not done in that time."""
        done = threading.Event()
        self._calls.put((call, done))
        if wait and not self._is_stuck:
            self._is_stuck = not done.wait(_WAIT_SECONDS)

    def settle(self, seconds: float) -> None:
        """Wait for all calls, at most that long."""
        done = threading.Event()
        self._calls.put((lambda: None, done))
        done.wait(seconds)

    def _work(self) -> None:
        while True:
            call, done = self._calls.get()
            call()
            self._is_stuck = False
            done.set()


_sender: _Sender | None = None


def leave(create: Callable[P, object], *args: P.args, **kwargs: P.kwargs) -> None:
    """Have an artifact made, by now if Prefect's server answers, otherwise when it does."""
    _send(lambda: create(*args, **kwargs), wait=True)


def leave_unseen(call: Callable[[], object]) -> None:
    """Have a call made, and go on at once."""
    _send(call, wait=False)


def settle() -> None:
    """Let what was left arrive before a run ends; ten seconds are enough unless Prefect's server is away."""
    if _sender is not None:
        _sender.settle(_SETTLE_SECONDS)


def _send(call: Callable[[], object], *, wait: bool) -> None:
    global _sender  # noqa: PLW0603  one thread for all: artifacts come in the order in which they were left
    if _sender is None:
        _sender = _Sender()
    context = contextvars.copy_context()  # which run an artifact belongs to
    _sender.send(lambda: context.run(_try, call), wait=wait)


def _try(call: Callable[[], object]) -> None:
    try:
        call()
    except Exception as error:  # noqa: BLE001  whatever it is, the run must not fail of it, nor this thread end
        _say(error)


def _say(error: Exception) -> None:
    get_run_logger().warning("Prefect's server did not take an artifact (%s)", str(error) or type(error).__name__)
