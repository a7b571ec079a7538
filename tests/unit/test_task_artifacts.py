import threading

import pytest

from tasks import artifacts


@pytest.fixture(autouse=True)
def _sender_of_its_own(monkeypatch):
    monkeypatch.setattr(artifacts, "_sender", None)


def test_an_artifact_is_there_when_leave_returns_if_the_server_answers():
    made = []
    artifacts.leave(made.append, "one")
    assert made == ["one"]


def test_a_server_that_hangs_is_waited_for_once_and_what_was_left_arrives_in_order_when_it_is_back():
    made, is_back = [], threading.Event()
    artifacts.leave(is_back.wait)  # waits, for two seconds
    for number in range(1000):  # each of them two seconds would be half an hour
        artifacts.leave(made.append, number)
    artifacts.leave_unseen(lambda: made.append("last"))
    assert made == []
    is_back.set()
    artifacts.settle()
    assert made == [*range(1000), "last"]


def test_an_artifact_that_cannot_be_made_fails_nothing_and_the_next_is_made(monkeypatch):
    told, made = [], []
    monkeypatch.setattr(artifacts, "_say", told.append)

    def fail():
        raise RuntimeError("the client was closed")

    artifacts.leave(fail)
    artifacts.leave(made.append, "next")
    assert [str(error) for error in told] == ["the client was closed"]
    assert made == ["next"]
