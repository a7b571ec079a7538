from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from pii_finetune.promotion_history import Promotion, next_moment, one_line, version_before


def past(*steps: str) -> list[Promotion]:
    """`3` promotes version 3, `-2` rolls back to version 2; each takes the place of the one before."""
    made: list[Promotion] = []
    for number, step in enumerate(steps):
        previous = made[-1].version if made else None
        kind = "rollback" if step.startswith("-") else "promotion"
        made.append(Promotion(step.lstrip("-"), f"{number:04}", previous, "somebody", "", kind))
    return made


def test_before_the_first_there_is_none():
    assert version_before([], "1") is None
    assert version_before(past("1"), "1") is None


def test_before_a_version_is_the_one_whose_place_it_took():
    assert version_before(past("1", "2", "3"), "3") == "2"


def test_going_back_twice_goes_back_two_models():
    assert version_before(past("1", "2", "3", "-2"), "2") == "1"
    assert version_before(past("1", "2", "3", "-2", "-1"), "1") is None


def test_after_a_rollback_a_new_model_leads_back_to_where_it_came_from():
    assert version_before(past("1", "2", "3", "-2", "4"), "4") == "2"


def test_a_version_that_came_into_production_by_another_way_counts():
    assert version_before([Promotion("5", "0", "4", "somebody", "", "promotion")], "5") == "4"
    assert version_before(past("1", "2"), "7") == "2"


@given(st.lists(st.integers(1, 5), max_size=12), st.integers(0, 12))
def test_rolling_back_ends_and_never_returns_to_what_is_there(promoted: list[int], num_rollbacks: int):
    done = past(*map(str, promoted))
    for _ in range(num_rollbacks):
        current = done[-1].version if done else None
        before = version_before(done, current)
        assert before is None or before != current
        if before is None:
            return
        done.append(Promotion(before, f"{len(done):04}", current, "somebody", "", "rollback"))
    assert num_rollbacks <= len(promoted)


def test_a_clock_that_is_behind_does_not_turn_history_round():
    ahead = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert next_moment([Promotion("1", ahead, None, "somebody", "", "promotion")]) > ahead


@given(st.text(max_size=5000))
def test_a_reason_is_one_printable_line_that_fits_a_tag(reason: str):
    line = one_line(reason)
    assert line.isprintable()
    assert len(line) <= 2000
