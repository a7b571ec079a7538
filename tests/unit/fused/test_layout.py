import torch
from hypothesis import given
from hypothesis import strategies as st

from pii_finetune.fused.layout import Row, lay_out, own_tokens, shared_start, visible

TOKENS = st.integers(1, 9)
START = (7, 7, 7)


@st.composite
def batches(draw) -> tuple[list[Row], int]:
    num_answers = draw(st.integers(1, 3))
    answer = st.lists(TOKENS, min_size=1, max_size=3).map(tuple)
    prompt = st.lists(TOKENS, min_size=1, max_size=6).map(lambda own: START + tuple(own))
    row = st.builds(Row, prompt, st.tuples(*[answer] * num_answers))
    return draw(st.lists(row, min_size=1, max_size=7)), draw(st.sampled_from([0, len(START)]))


@given(batches(), st.integers(1, 4), st.integers(1, 8))
def test_each_answer_token_is_predicted_from_its_own_prompt_and_answer_and_nothing_else(batch, per_sequence, multiple):
    rows, num_shared = batch
    layout = lay_out(rows, num_shared, per_sequence, multiple_of=multiple)
    seen = visible(layout)
    num_asked = layout.asked.shape[1]
    for b, row in enumerate(rows):
        for a, answer in enumerate(row.answers):
            for t, token in enumerate(answer):
                g, q = divmod(int(layout.looked_up[b, a, t]), num_asked)
                place = int(layout.asked[g, q])
                context = seen[g, place].nonzero()[:, 0]
                assert tuple(layout.tokens[g, context].tolist()) == row.prompt + answer[:t]
                assert layout.positions[g, context].tolist() == list(range(len(row.prompt) + t))
                assert layout.targets[b, a, t] == token
                assert layout.counts[b, a, t] == 1


@given(batches(), st.integers(1, 4), st.integers(0, 9))
def test_rows_that_fill_up_a_batch_count_for_nothing(batch, per_sequence, num_rows):
    rows, num_shared = batch
    layout = lay_out(rows, num_shared, per_sequence, num_rows=num_rows)
    assert len(layout.counts) >= max(len(rows), num_rows)
    assert len(layout.counts) % per_sequence == 0
    assert layout.counts.sum() == sum(len(answer) for row in rows for answer in row.answers)
    assert not layout.counts[len(rows) :].any()


@given(batches(), st.integers(1, 4))
def test_nothing_sees_nothing(batch, per_sequence):
    rows, num_shared = batch
    assert visible(lay_out(rows, num_shared, per_sequence, multiple_of=8)).any(-1).all()


@given(batches(), st.integers(1, 4))
def test_a_position_is_looked_up_where_its_token_is_kept(batch, per_sequence):
    rows, num_shared = batch
    table, numbered = [*START[:num_shared]], []
    for row in rows:
        numbered.append(Row(row.prompt, row.answers, first=len(table)))
        table += [*row.prompt[num_shared:], *(token for answer in row.answers for token in answer[:-1])]
        assert len(table) - numbered[-1].first == own_tokens(row, num_shared)
    layout = lay_out(numbered, num_shared, per_sequence, multiple_of=8)
    is_token = layout.row >= 0
    assert torch.equal(torch.tensor(table)[layout.source[is_token]], layout.tokens[is_token])


def test_one_row_with_one_answer_a_sequence_needs_no_mask():
    rows = [Row((1, 2, 3), ((4, 5),)), Row((1, 2), ((4, 5),))]
    assert lay_out(rows, 0, 1).plainly_causal
    assert not lay_out(rows, 1, 2).plainly_causal
    assert not lay_out([Row((1, 2), ((4, 5), (6, 5)))], 0, 1).plainly_causal


def test_batches_of_like_lengths_have_one_shape():
    shapes = {
        lay_out([Row(tuple(range(1, n)), ((4, 5),))] * rows, 0, 1, num_rows=4, multiple_of=32).shapes
        for n in (5, 17, 30)
        for rows in (1, 3, 4)
    }
    assert len(shapes) == 1


PROMPTS = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), min_size=1, max_size=6)


@given(PROMPTS)
def test_what_is_shared_starts_every_prompt_and_leaves_each_a_token(prompts: list[list[int]]):
    shared = shared_start(prompts)
    assert len({tuple(prompt[:shared]) for prompt in prompts}) == 1
    assert all(len(prompt) > shared for prompt in prompts)


@given(PROMPTS)
def test_nothing_more_could_be_shared(prompts: list[list[int]]):
    more = shared_start(prompts) + 1
    assert len({tuple(prompt[:more]) for prompt in prompts}) > 1 or min(map(len, prompts)) <= more
