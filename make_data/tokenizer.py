"""The embedded base's tokenizer: byte-level BPE with Qwen2.5's splitting rule and ChatML template."""

import json
from collections.abc import Iterable

from tokenizers import AddedToken, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer

from pii_finetune.prompt import build_messages

VOCABULARY_SIZE = 4096
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

# ChatML, as Qwen2.5 writes it for turns without tools.
_CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def train_tokenizer(lines: Iterable[str]) -> Qwen2Tokenizer:
    """Train the tokenizer on lines of the pretraining text and on the question's wording.

    The wording is shown to the tokenizer only, so that the prompt is short; the model never trains on it.
    """
    # Qwen2Tokenizer brings the splitting rule. AutoTokenizer takes that class for any folder whose model is a Qwen2,
    # whatever the folder says, so only a tokenizer that is one comes back as it was saved.
    bpe = Qwen2Tokenizer().backend_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    question = " ".join(f"{turn['role']}\n{turn['content']}" for turn in build_messages("", "English"))
    bpe.train_from_iterator([*lines, *[question] * 2000], trainer)
    trained = json.loads(bpe.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=trained["vocab"],
        merges=[tuple(pair) for pair in trained["merges"]],  # pyright: ignore[reportArgumentType]
        eos_token="<|im_end|>",  # noqa: S106
        pad_token="<|endoftext|>",  # noqa: S106
        additional_special_tokens=["<|im_start|>"],
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    for answer in ("yes", "no"):
        if len(tokenizer.encode(answer)) != 1:
            raise ValueError(f"the answer {answer!r} is not one token; train on more text")
    return tokenizer
