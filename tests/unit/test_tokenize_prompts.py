from hypothesis import given
from hypothesis import strategies as st

from pii_finetune.base_model import load_tokenizer
from pii_finetune.labels import spell_out
from pii_finetune.profiles import embedded
from pii_finetune.prompt import render_prompt, tokenize_prompts

TOKENIZER = load_tokenizer(embedded().base)


def tokens(questions):
    return TOKENIZER([render_prompt(TOKENIZER, *question) for question in questions])["input_ids"]


def spelled(questions):
    return [(spell_out(label), language) for label, language in questions]


@given(st.lists(st.tuples(st.text(max_size=20), st.none() | st.text(min_size=1, max_size=8)), min_size=1, max_size=4))
def test_any_question_has_the_tokens_of_its_rendered_prompt(questions):
    assert tokenize_prompts(TOKENIZER, spelled(questions)) == tokens(questions)


def test_every_label_of_the_workbook_has_the_tokens_of_its_rendered_prompt(shipped):
    questions = [(record.label, record.language) for record in shipped.records]
    assert tokenize_prompts(TOKENIZER, spelled(questions)) == tokens(questions)


def test_no_questions_have_no_tokens():
    assert tokenize_prompts(TOKENIZER, []) == []
