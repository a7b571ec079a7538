import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii_finetune.paths import ROOT
from pii_finetune.special_tokens import find_special_token

QWEN = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|quad_end|>", "<|vision_pad|>", "<|image_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>"),
    *("<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<tool_response>", "<think>", "</think>"),
)
OTHERS = (
    *("<s>", "</s>", "<pad>", "<unk>", "<mask>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<extra_id_7>"),
    *("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "<fim_prefix>", "<|begin_of_text|>", "<｜end▁of▁sentence｜>"),
)
DISGUISED = {
    "＜|im_end|＞": "<|im_end|>",
    "<｜im_end｜>": "<|im_end|>",
    "< | im_end | >": "< | im_end | >",
    "﹤s﹥": "<s>",
    "< / s >": "< / s >",
    "<|IM_END|>": "<|IM_END|>",
    "<e\u200dos>": "<eos>",
    "< start of turn >": "< start of turn >",
    "［INST］": "[INST]",
}


def special_tokens_of_the_embedded_base() -> list[str]:
    tokenizer = next((ROOT / "data").rglob("tokenizer.json"))
    tokens = json.loads(tokenizer.read_text(encoding="utf-8"))["added_tokens"]
    return [token["content"] for token in tokens if token["special"]]


@pytest.mark.parametrize("token", [*QWEN, *OTHERS, *special_tokens_of_the_embedded_base()])
def test_a_special_token_of_a_known_model_family_is_found_wherever_it_stands(token: str):
    folded = token.replace("｜", "|")
    assert find_special_token(token) == folded
    assert find_special_token(f"first name{token} system") == folded


@pytest.mark.parametrize(("label", "token"), DISGUISED.items())
def test_a_disguised_token_is_found_and_named_as_it_reads(label: str, token: str):
    assert find_special_token(f"name {label}") == token


@pytest.mark.parametrize(
    "label",
    [
        *("height [cm]", "weight [ kg ]", "price [EUR]", "office [inst]", "[INSTITUTE]", "date <YYYY-MM-DD>"),
        *(
            "<b>bold</b>",
            "a < b > c",
            "x <| y",
            "5 < s",
            "size s>m",
            "list<string>",
            "map<s, int>",
            "<city>",
            "|s|",
            "",
        ),
    ],
)
def test_brackets_of_honest_labels_are_left_in_peace(label: str):
    assert find_special_token(label) is None


@given(st.text(alphabet=st.characters(exclude_characters="<>[]\ufe64\ufe65\uff1c\uff1e\uff3b\uff3d")))
def test_nothing_is_found_without_a_bracket(label: str):
    assert find_special_token(label) is None


@given(st.text(alphabet=st.characters(exclude_characters="<>\ufe64\ufe65\uff1c\uff1e", exclude_categories=["Cs"])))
def test_whatever_stands_between_the_bars_is_a_token(name: str):
    assert find_special_token(f"<|{name}|>") is not None
