"""Trials started, watched and ended: at most so many at once, whoever runs them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pii_finetune.sweep.study import Outcome, Study


class RunningTrial(Protocol):
    """A trial that was started."""

    def checks(self) -> Mapping[int, float]:
        """Return its F1 on the validation split by check, as far as it is."""
        ...

    def outcome(self) -> Outcome | None:
        """Return how it ended; None while it goes on."""
        ...

    def stop(self) -> None:
        """Ask it to end; returns at once."""
        ...


@dataclass(frozen=True)
class OpenSweep:
    """A sweep that is going on, for one variant of the model or for the only one."""

    variant: str | None
    overrides: Mapping[str, Any]  # what its trials have in common beyond the profile
    run_id: str  # in MLflow
    study: Study


Start = Callable[[OpenSweep, int, Mapping[str, Any]], RunningTrial]


def drive(sweeps: Sequence[OpenSweep], start: Start, at_once: int, wait: Callable[[], None]) -> None:
    """Run all trials of all sweeps to their end, at most `at_once` of them at a time.

    An error on the way, or being stopped, asks those that run to end.

    Args:
        sweeps: that are open.
        start: starts a trial of a sweep, given its number and its settings.
        at_once: how many.
        wait: is called between two looks at those that run.
    """
    running: list[tuple[OpenSweep, int, RunningTrial]] = []
    try:
        while True:
            while len(running) < at_once and (found := _next(sweeps)):
                sweep, number = found
                running.append((sweep, number, start(sweep, number, sweep.study.settings(number))))
            if not running:
                return
            going_on = [each for each in running if not _look_at(*each)]
            if len(going_on) == len(running):
                wait()
            running = going_on
    except BaseException:
        for _, _, trial in running:
            trial.stop()
        raise


def _next(sweeps: Sequence[OpenSweep]) -> tuple[OpenSweep, int] | None:
    for sweep in sweeps:
        if (number := sweep.study.next()) is not None:
            return sweep, number
    return None


def _look_at(sweep: OpenSweep, number: int, trial: RunningTrial) -> bool:
    """Note what is new of a trial, stop it if it is not worth going on; return whether it ended."""
    outcome = trial.outcome()
    verdicts = [sweep.study.report(number, at, f1) for at, f1 in sorted(trial.checks().items())]  # every one is noted
    if outcome is not None:
        sweep.study.tell(number, outcome)
        return True
    if not all(verdicts):
        trial.stop()
    return False
