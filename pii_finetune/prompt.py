"""The question put to the model. Everything that trains, scores or serves builds it here."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pii_finetune.labels import spell_out
from pii_finetune.languages import UNKNOWN

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SYSTEM = "Sensitive personal data? Answer yes or no."

# Every special token of Qwen2.5 and of the embedded base is written <...>, and the label stands in quotation marks.
# Without these three characters a label can neither become a token of the dialogue nor end its own quotation.
_AS_DATA = str.maketrans({"<": "‹", ">": "›", '"': "”", "\n": " ", "\r": " "})


def build_messages(label: str, language: str | None) -> list[dict[str, str]]:
    """Return the system and user turn that ask about one label, spelled out."""
    return _messages(_question(spell_out(label), language))


def render_prompt(tokenizer: "PreTrainedTokenizerBase", label: str, language: str | None) -> str:
    """Return the ChatML text up to the point where the model answers `yes` or `no`."""
    return _render(tokenizer, build_messages(label, language))


def tokenize_prompts(
    tokenizer: "PreTrainedTokenizerBase", spelled: Sequence[tuple[str, str | None]]
) -> list[list[int]]:
    """Return the tokens of each rendered prompt, given labels spelled out, each with its language.

    What is the same in all is rendered and tokenised once.
    Special tokens end what a tokenizer may merge, so the text between the last one before the question and the first
    one after it can be tokenised by itself.
    """
    if not spelled:
        return []
    before, after = _render(tokenizer, _messages(_PLACE)).split(_PLACE)
    special = "|".join(map(re.escape, sorted(tokenizer.all_special_tokens, key=len, reverse=True))) or "(?!)"
    head = before[: max((found.end() for found in re.finditer(special, before)), default=0)]
    found = re.search(special, after)
    tail = after[found.start() :] if found else ""
    lead, trail = before[len(head) :], after.removesuffix(tail)
    first, last = tokenizer([head, tail])["input_ids"]
    texts = [f"{lead}{_question(label, language)}{trail}" for label, language in spelled]
    turns = tokenizer(texts, return_attention_mask=False)["input_ids"]  # making the masks takes as long again
    return [[*first, *turn, *last] for turn in turns]


_PLACE = "\N{OBJECT REPLACEMENT CHARACTER}"  # stands in for the question in no template


def _question(spelled: str, language: str | None) -> str:
    return f'{language or UNKNOWN} field: "{spelled.translate(_AS_DATA)}"'


def _messages(question: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]


def _render(tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, str]]) -> str:
    return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
