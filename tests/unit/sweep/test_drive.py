import pytest

from pii_finetune.profiles import embedded
from pii_finetune.sweep.drive import OpenSweep, drive
from pii_finetune.sweep.space import build_space
from pii_finetune.sweep.study import Outcome, Study


class Remote:
    """Trials that end after some looks, with the F1 of their learning rate's place in the grid."""

    def __init__(self, num_looks=3, fails=()):
        self.alive, self.most_at_once, self.started, self.stopped = set(), 0, [], []
        self._num_looks, self._fails = num_looks, fails

    def start(self, sweep, number, settings):
        self.started.append((sweep.variant, number, settings))
        self.alive.add((sweep.variant, number))
        self.most_at_once = max(self.most_at_once, len(self.alive))
        return Trial(self, sweep.variant, number, self._num_looks, number in self._fails)


class Trial:
    def __init__(self, remote, variant, number, num_looks, fails):
        self._remote, self._key, self._left, self._fails = remote, (variant, number), num_looks, fails
        self._f1 = [0.6, 0.7, 0.8, 0.9, 0.1, 0.95][number]

    def checks(self):
        return {1: self._f1 - 0.05}

    def outcome(self):
        self._left -= 1
        if self._key in self._remote.stopped:
            kind = Outcome("stopped early")
        elif self._left > 0:
            return None
        else:
            kind = Outcome("failed", reason="out of memory") if self._fails else Outcome("done", self._f1)
        self._remote.alive.discard(self._key)
        return kind

    def stop(self):
        self._remote.stopped.append(self._key)


def opened(folder, *names):
    space = build_space(embedded(), {"sft.learning_rate": [1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 6e-4]}, {}, None)
    return [
        OpenSweep(name, {}, f"run-{name}", Study(folder / f"{name}.journal", space, 0, pruning=True)) for name in names
    ]


@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_all_trials_of_all_variants_run_at_most_so_many_at_once(tmp_path, at_once):
    remote, sweeps = Remote(), opened(tmp_path, "de", "fr")
    drive(sweeps, remote.start, at_once, lambda: None)
    assert [(name, number) for name, number, _ in remote.started] == [(n, i) for n in ("de", "fr") for i in range(6)]
    assert remote.most_at_once == at_once
    assert not remote.alive
    assert all(sweep.study.best().number == 5 for sweep in sweeps)


def test_a_trial_that_is_behind_is_stopped_and_counts_as_stopped(tmp_path):
    remote, [sweep] = Remote(), opened(tmp_path, "de")
    drive([sweep], remote.start, 1, lambda: None)
    assert set(remote.stopped) == {("de", 4)}
    assert [row.state for row in sweep.study.rows()] == [*["done"] * 4, "stopped early", "done"]


def test_a_trial_that_fails_ends_nothing_but_itself(tmp_path):
    remote, [sweep] = Remote(fails=(5,)), opened(tmp_path, "de")
    drive([sweep], remote.start, 2, lambda: None)
    assert sweep.study.rows()[5].reason == "out of memory"
    assert sweep.study.best().number == 3


def test_who_is_stopped_stops_the_trials_that_run(tmp_path):
    remote, [sweep] = Remote(num_looks=100), opened(tmp_path, "de")

    def wait():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive([sweep], remote.start, 3, wait)
    assert set(remote.stopped) == {("de", 0), ("de", 1), ("de", 2)}
