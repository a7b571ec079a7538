"""The trials of a sweep, kept by Optuna in a journal: what was tried, what came of it, and what to try next."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from pii_finetune.sweep.space import Space

# Trials that end unpruned before others are compared with them; the median of fewer says little.
NUM_UNPRUNED = 4
_LOGGER = logging.getLogger(__name__)
_STATES = {
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


@dataclass(frozen=True)
class Outcome:
    """How a trial ended."""

    kind: Literal["done", "stopped early", "failed"]
    f1: float | None = None  # on the validation split, if it was measured at the end
    reason: str = ""


@dataclass(frozen=True)
class TrialRow:
    """A trial as a table shows it."""

    number: int
    settings: Mapping[str, Any]
    state: str
    f1: float | None  # on the validation split: at the end, or when it was stopped
    checks: Mapping[int, float]  # F1 on the validation split by check, counted from 1
    reason: str


class Study:
    """What to try next, and what came of it.

    The journal survives the process: the next one goes on with the trials that were running. One process at a time
    must have it.
    """

    def __init__(self, journal: Path, space: Space, seed: int, *, pruning: bool) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        journal.parent.mkdir(parents=True, exist_ok=True)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=NUM_UNPRUNED) if pruning else optuna.pruners.NopPruner()
        self._study = _open(journal, pruner)
        # Another seed each time the journal is opened, or what was drawn first would be drawn again.
        drawn = len(self._study.trials)
        self._study.sampler = optuna.samplers.TPESampler(seed=(seed + drawn) % 2**32, constant_liar=True)
        self._space, self._distributions = space, _distributions(space)
        if not space.ranges:
            for combination in space.combinations()[drawn:]:
                self._study.enqueue_trial({path: _encode(value) for path, value in combination.items()})
        self._left = [each.number for each in self._study.get_trials(states=[TrialState.RUNNING])]
        for number in self._left:
            self._complete(number)

    def next(self) -> int | None:
        """Return the number of a trial to start: one that a process left running, then a new one; None: all are."""
        if self._left:
            return self._left.pop(0)
        if self._study.get_trials(deepcopy=False, states=[TrialState.WAITING]):
            return self._study.ask(self._distributions).number
        if self._space.ranges and len(self._study.get_trials(deepcopy=False)) < self._space.num_trials:
            return self._study.ask(self._distributions).number
        return None

    def settings(self, number: int) -> dict[str, Any]:
        """Return what a trial tries, as overrides."""
        return {
            path: json.loads(value) if path in self._space.grid else value
            for path, value in self._frozen(number).params.items()
        }

    def report(self, number: int, check: int, f1: float) -> bool:
        """Note a trial's F1 at a check; return whether it is worth going on.

        It is not if its best so far is below the median of the trials that went to their end, at the same check.
        """
        trial = optuna.Trial(self._study, self._frozen(number)._trial_id)  # noqa: SLF001 # as Optuna's own CLI does
        if check not in self._frozen(number).intermediate_values:
            trial.report(f1, check)
        return not trial.should_prune()

    def tell(self, number: int, outcome: Outcome) -> None:
        """Note how a trial ended."""
        trial = optuna.Trial(self._study, self._frozen(number)._trial_id)  # noqa: SLF001
        trial.set_user_attr("reason", outcome.reason)
        if outcome.kind == "done":
            self._study.tell(number, outcome.f1)
        elif outcome.kind == "stopped early":
            self._study.tell(number, state=TrialState.PRUNED)
        else:
            self._study.tell(number, state=TrialState.FAIL)

    def rows(self) -> list[TrialRow]:
        """Return all trials in order of their numbers."""
        return [
            TrialRow(
                number=each.number,
                settings=self.settings(each.number),
                state=_STATES[each.state],
                f1=each.value,
                checks=dict(sorted(each.intermediate_values.items())),
                reason=each.user_attrs.get("reason", ""),
            )
            for each in self._study.get_trials(deepcopy=False)
        ]

    def best(self) -> TrialRow | None:
        """Return the trial of the highest F1 of those that went to their end, the first of equals; or None."""
        done = [row for row in self.rows() if row.state == "done"]
        return max(done, key=lambda row: (row.f1, -row.number), default=None)

    def _complete(self, number: int) -> None:
        """Choose what a process that died between the trial's begin and its last setting had not chosen yet."""
        trial = optuna.Trial(self._study, self._frozen(number)._trial_id)  # noqa: SLF001
        for path, distribution in self._distributions.items():
            trial._suggest(path, distribution)  # noqa: SLF001 # what is chosen or enqueued already stays

    def _frozen(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]


def _open(journal: Path, pruner: optuna.pruners.BasePruner) -> optuna.Study:
    """Open the journal; one that cannot be read is put aside: trials are repeated, their finished stages are kept."""
    # Whoever left a lock is dead, or another process would hold the folder; Optuna would wait 30 s to find out.
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    try:
        return _create(journal, pruner)
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:  # as its replay meets it
        damaged = journal.with_name(f"{journal.name}.damaged")
        journal.replace(damaged)
        _LOGGER.warning("%s cannot be read (%s): put aside as %s, its trials begin anew", journal, error, damaged.name)
        return _create(journal, pruner)


def _create(journal: Path, pruner: optuna.pruners.BasePruner) -> optuna.Study:
    content = journal.read_bytes() if journal.exists() else b""
    if content and not content.endswith(b"\n"):
        raise ValueError("its last line is cut off")  # Optuna would write on in that line
    return optuna.create_study(
        study_name="sweep",
        storage=JournalStorage(JournalFileBackend(str(journal))),
        direction="maximize",
        pruner=pruner,
        load_if_exists=True,
    )


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    # Optuna's choices are numbers and texts; a setting may also be a list.
    chosen: dict[str, BaseDistribution] = {
        path: CategoricalDistribution([_encode(value) for value in values]) for path, values in space.grid.items()
    }
    for path, bounds in space.ranges.items():
        if bounds.is_whole:
            chosen[path] = IntDistribution(int(bounds.low), int(bounds.high), log=bounds.log)
        else:
            chosen[path] = FloatDistribution(bounds.low, bounds.high, log=bounds.log)
    return chosen


def _encode(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
