from hypothesis import given
from hypothesis import strategies as st

from pii_finetune.shared_start import _shared_start

PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=2, max_size=6)


@given(PROMPTS)
def test_what_is_shared_starts_every_prompt_and_leaves_each_a_token(batch: list[list[int]]):
    shared = _shared_start(batch)
    assert all(prompt[: len(shared)] == shared and len(prompt) > len(shared) for prompt in batch)


@given(PROMPTS)
def test_nothing_more_could_be_shared(batch: list[list[int]]):
    more = len(_shared_start(batch)) + 1
    assert len({tuple(prompt[:more]) for prompt in batch}) > 1 or min(map(len, batch)) <= more


def test_a_prompt_alone_is_asked_whole():
    assert _shared_start([[1, 2, 3]]) == []
