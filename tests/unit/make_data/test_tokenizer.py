import itertools
import json
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoTokenizer, Qwen2Tokenizer

from make_data.pretrain import FOLDER
from make_data.pretraining_text import TextGenerator, read_entries
from make_data.tokenizer import SPECIAL_TOKENS, VOCABULARY_SIZE, train_tokenizer
from pii_finetune.prompt import render_prompt

SHIPPED = AutoTokenizer.from_pretrained(FOLDER)
TEXTS = ("first_name", "Geburtsdatum", "जन्म तिथि", "పుట్టిన తేదీ", "👩‍💻 rôle", "crm.contact.IBAN", " \n\t x", "")


@pytest.fixture(scope="module")
def trained() -> Qwen2Tokenizer:
    text = itertools.islice(TextGenerator(read_entries(), seed=0), 2000)
    return train_tokenizer(line.given + line.learned for line in text)


def test_the_shipped_tokenizer_reloads_as_the_class_it_is():
    assert type(SHIPPED) is Qwen2Tokenizer
    assert len(SHIPPED) == VOCABULARY_SIZE == AutoConfig.from_pretrained(FOLDER).vocab_size


@pytest.mark.parametrize("text", TEXTS)
def test_the_shipped_tokenizer_saved_and_reloaded_gives_the_same_ids(tmp_path: Path, text: str):
    SHIPPED.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.encode(text) == SHIPPED.encode(text)
    assert render_prompt(again, text, "English") == render_prompt(SHIPPED, text, "English")


@pytest.mark.parametrize("text", TEXTS)
def test_a_trained_tokenizer_saved_and_reloaded_gives_the_same_ids(trained: Qwen2Tokenizer, tmp_path: Path, text: str):
    trained.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}), encoding="utf-8")
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert type(again) is Qwen2Tokenizer
    assert again.encode(text) == trained.encode(text)
    assert again.decode(again.encode(text)) == text


@pytest.mark.parametrize("text", TEXTS)
def test_no_text_is_lost(text: str):
    assert SHIPPED.decode(SHIPPED.encode(text)) == text


@pytest.mark.parametrize("answer", ["yes", "no"])
def test_an_answer_is_one_token_after_the_prompt(answer: str):
    prompt = render_prompt(SHIPPED, "first name", "English")
    ids = SHIPPED.encode(prompt + answer)
    assert ids[:-1] == SHIPPED.encode(prompt)
    assert SHIPPED.decode(ids[-1:]) == answer


def test_the_end_of_a_turn_ends_the_text():
    config = AutoConfig.from_pretrained(FOLDER)
    assert SHIPPED.eos_token == "<|im_end|>"
    assert SHIPPED.eos_token_id == config.eos_token_id
    assert SHIPPED.pad_token_id == config.pad_token_id != SHIPPED.eos_token_id


def test_every_token_of_the_dialogue_is_one_special_token():
    assert all(len(SHIPPED.encode(token)) == 1 for token in SPECIAL_TOKENS)
    assert set(SPECIAL_TOKENS) == set(SHIPPED.all_special_tokens)


def test_the_base_is_at_most_12_mib_and_nothing_in_it_is_pickled():
    files = [file for file in FOLDER.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 12 * 2**20
    assert {file.suffix for file in files if file.name != "SHA256SUMS"} <= {".json", ".safetensors", ".jinja", ".md"}
