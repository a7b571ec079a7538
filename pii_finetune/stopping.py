"""Stopping a training on SIGTERM: at the next step, with a checkpoint."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pii_finetune.distributed.ranks import any_rank
from pii_finetune.errors import TrainingStoppedError

# What a container gets between SIGTERM and SIGKILL is 10 s with Docker, 30 s with Kubernetes and Prefect.
GRACE_SECONDS = 6.0


class Stoppable(Protocol):
    """A training that can be asked to stop."""

    def ask(self) -> None:
        """Ask it; returns at once."""


class StopCallback(TrainerCallback):
    """Ends the training after the step at hand, with a checkpoint, once it was asked to, in whichever process."""

    def __init__(self) -> None:
        self._is_asked = False

    def ask(self) -> None:
        """Ask for the end."""
        self._is_asked = True

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Ask Trainer for a checkpoint and the end."""
        if any_rank(self._is_asked):
            control.should_save = state.global_step < state.max_steps
            control.should_training_stop = True
            control.should_evaluate = False


@contextmanager
def stopping_on_sigterm(training: Stoppable) -> Iterator[None]:
    """Turn SIGTERM into a stop at the next step; where a step takes too long, into an error at once.

    Only the main thread gets signals; elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[threading.Timer] = []  # not empty: the training is asked

    def on_signal(_: int, __: FrameType | None) -> None:
        if waiting:
            raise TrainingStoppedError(
                f"stopped by SIGTERM without a checkpoint: asked twice, or no step ended within {GRACE_SECONDS:g} s; "
                "a rerun goes on from the checkpoint before"
            )
        timer = threading.Timer(GRACE_SECONDS, signal.pthread_kill, (threading.main_thread().ident, signal.SIGTERM))
        timer.daemon = True
        timer.start()
        waiting.append(timer)
        training.ask()

    before = signal.signal(signal.SIGTERM, on_signal)
    try:
        yield
    finally:
        for timer in waiting:
            timer.cancel()
        signal.signal(signal.SIGTERM, before)
