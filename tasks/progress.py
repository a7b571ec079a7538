"""Progress of a long task: a bar in Prefect's UI, lines in the log."""

import time
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from pii_finetune.training import TrainingUpdate
from tasks.artifacts import leave, leave_unseen

_SECONDS_BETWEEN_UPDATES = 2.0


class Progress:
    """A progress artifact that is updated at most every two seconds, in the background."""

    def __init__(self, key: str, description: str) -> None:
        self._artifact: UUID | None = None
        self._share, self._shown = 0.0, 0.0
        self._is_waiting = False  # whether an update is on its way: it takes the latest share along
        self._updated = time.monotonic()
        self._log = get_run_logger()
        leave(self._create, key, description)

    def __call__(self, share: float) -> None:
        """Show `share` in [0, 1] as done."""
        now, self._share = time.monotonic(), min(share, 1.0)
        if share >= 1:
            leave(self._update)
        elif now - self._updated >= _SECONDS_BETWEEN_UPDATES and not self._is_waiting:
            self._is_waiting, self._updated = True, now
            leave_unseen(self._update)

    def show_training(self, update: TrainingUpdate) -> None:
        """Show how far a training is, and its latest losses."""
        self(update.step / max(update.num_steps, 1))
        figures = {"loss": "loss", "eval_loss": "validation loss"}
        told = [f"{name} {update.metrics[key]:.4f}" for key, name in figures.items() if key in update.metrics]
        if told:
            self._log.info("step %d of %d, %s", update.step, update.num_steps, ", ".join(told))

    def _create(self, key: str, description: str) -> None:
        self._artifact = cast("UUID", create_progress_artifact(0.0, key=key, description=description))

    def _update(self) -> None:
        self._is_waiting = False
        if self._artifact is not None and self._shown != self._share:
            self._shown = self._share
            update_progress_artifact(self._artifact, progress=round(100 * self._shown, 1))
