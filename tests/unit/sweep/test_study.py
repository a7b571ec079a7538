import time

import pytest
from optuna.storages import JournalStorage

from pii_finetune.profiles import embedded
from pii_finetune.sweep.space import build_space
from pii_finetune.sweep.study import NUM_UNPRUNED, Outcome, Study

GRID = {"lora.r": [4, 8, 16, 32, 64, 128], "lora.target_modules": [["q_proj", "v_proj"]]}
RANGE = {"sft.learning_rate": [1e-4, 1e-2, "log"]}


@pytest.fixture
def journal(tmp_path):
    return tmp_path / "sweep/trials.journal"


def grid(journal, pruning=True):
    return Study(journal, build_space(embedded(), GRID, {}, None), seed=0, pruning=pruning)


def ranges(journal, num_trials=5, seed=0):
    return Study(journal, build_space(embedded(), {"lora.r": [8, 16]}, RANGE, num_trials), seed=seed, pruning=True)


def play(study, f1_of):
    """Run every trial to its end; the settings that were tried."""
    tried = []
    while (number := study.next()) is not None:
        tried.append(study.settings(number))
        study.tell(number, Outcome("done", f1_of(tried[-1])))
    return tried


def test_a_grid_is_tried_whole_and_once_and_settings_come_back_as_they_were_given(journal):
    tried = play(grid(journal), lambda each: each["lora.r"] / 1000)
    assert tried == [{"lora.r": r, "lora.target_modules": ["q_proj", "v_proj"]} for r in GRID["lora.r"]]
    assert grid(journal).next() is None


def test_as_many_are_drawn_from_ranges_as_were_asked_for(journal):
    tried = play(ranges(journal), lambda _: 0.5)
    rates = [each["sft.learning_rate"] for each in tried]
    assert len(set(rates)) == 5
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert {each["lora.r"] for each in tried} <= {8, 16}


def test_the_same_seed_draws_the_same(tmp_path):
    drawn = [play(ranges(tmp_path / name), lambda _: 0.5) for name in ("a", "b")]
    assert drawn[0] == drawn[1]
    assert play(ranges(tmp_path / "c", seed=1), lambda _: 0.5) != drawn[0]


def test_the_best_is_the_highest_f1_and_the_first_of_equals(journal):
    study = grid(journal)
    play(study, lambda each: 0.7 if each["lora.r"] in (8, 64) else 0.5)
    best = study.best()
    assert best is not None
    assert (best.settings["lora.r"], best.f1) == (8, 0.7)


def test_a_trial_below_the_median_is_stopped_once_enough_went_to_their_end(journal):
    study = grid(journal)
    for f1 in [0.6, 0.7, 0.8, 0.9][:NUM_UNPRUNED]:
        number = study.next()
        assert study.report(number, 1, f1)  # nothing to compare with yet
        study.tell(number, Outcome("done", f1))
    low = study.next()
    assert not study.report(low, 1, 0.5)
    study.tell(low, Outcome("stopped early", reason="others are ahead"))
    high = study.next()
    assert study.report(high, 1, 0.85)
    rows = study.rows()
    assert (rows[low].state, rows[low].reason, rows[low].checks) == ("stopped early", "others are ahead", {1: 0.5})


def test_without_pruning_none_is_stopped(journal):
    study = grid(journal, pruning=False)
    for f1 in (0.6, 0.7, 0.8, 0.9, 0.1):
        number = study.next()
        assert study.report(number, 1, f1)
        study.tell(number, Outcome("done", f1))


def test_a_failed_trial_is_kept_with_its_reason_and_is_never_the_best(journal):
    study = grid(journal)
    study.tell(study.next(), Outcome("failed", reason="loss is nan"))
    assert study.best() is None
    assert next((row.state, row.reason) for row in study.rows()) == ("failed", "loss is nan")
    play(study, lambda _: 0.4)
    assert study.best().number == 1


def test_the_next_process_goes_on_with_what_was_running_and_repeats_nothing(journal):
    study = grid(journal)
    study.tell(study.next(), Outcome("done", 0.5))
    running = study.next()
    study.report(running, 1, 0.55)

    again = grid(journal)
    assert again.next() == running
    assert again.rows()[running].checks == {1: 0.55}
    assert again.report(running, 1, 0.1)  # a check that was noted is not noted anew
    assert again.rows()[running].checks == {1: 0.55}
    again.tell(running, Outcome("done", 0.6))
    assert len(play(again, lambda _: 0.1)) == len(GRID["lora.r"]) - 2
    assert [row.f1 for row in again.rows()] == [0.5, 0.6, 0.1, 0.1, 0.1, 0.1]


def test_the_next_process_draws_others_than_the_first(journal):
    first = ranges(journal)
    drawn = [first.settings(first.next()) for _ in range(2)]
    again = ranges(journal)
    for number in (again.next(), again.next()):  # those two
        again.tell(number, Outcome("done", 0.5))
    drawn += play(again, lambda _: 0.5)
    assert len({each["sft.learning_rate"] for each in drawn}) == len(drawn) == 5


def test_a_grid_that_was_cut_off_while_it_was_written_down_is_completed(journal):
    def of_ranks(*ranks):
        return Study(journal, build_space(embedded(), {"lora.r": [*ranks]}, {}, None), seed=0, pruning=True)

    assert len(of_ranks(4, 8).rows()) == 2
    assert [row.number for row in of_ranks(4, 8, 16).rows()] == [0, 1, 2]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-7], lambda data: b"\x00garbage\n" + data, lambda _: b"[1]\n{}\n"]
)
def test_a_damaged_journal_is_put_aside_and_trials_begin_anew(journal, damage):
    play(grid(journal), lambda _: 0.5)
    journal.write_bytes(damage(journal.read_bytes()))
    assert len(play(grid(journal), lambda _: 0.5)) == len(GRID["lora.r"])
    assert grid(journal).next() is None
    assert journal.with_name("trials.journal.damaged").exists()


def test_a_lock_that_a_killed_process_left_is_not_waited_for(journal):
    grid(journal)
    journal.with_name("trials.journal.lock").symlink_to(journal)
    begun = time.monotonic()
    grid(journal).next()
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("num_noted", [0, 1])
def test_a_trial_that_was_begun_as_the_process_died_has_all_its_settings(journal, num_noted, monkeypatch):
    noted = []

    def dies(self, *args, **kwargs):
        if len(noted) == num_noted:
            raise KeyboardInterrupt
        noted.append(args)
        return original(self, *args, **kwargs)

    study = grid(journal)
    original = JournalStorage.set_trial_param
    with monkeypatch.context() as patch:
        patch.setattr(JournalStorage, "set_trial_param", dies)
        with pytest.raises(KeyboardInterrupt):
            study.next()
    again = grid(journal)
    number = again.next()
    assert number == 0
    assert again.settings(number) == {"lora.r": 4, "lora.target_modules": ["q_proj", "v_proj"]}
