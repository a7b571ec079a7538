"""A base of Qwen2.5's shape with random weights, which take the time and the room that the real ones take."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

_NAMES = (
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
    "tie_word_embeddings",
)
# Qwen2.5's own config.json of each size.
SHAPES: dict[str, dict[str, Any]] = {
    size: dict(zip(_NAMES, numbers, strict=True))
    for size, numbers in {
        "1.5B": (28, 1536, 8960, 12, 2, 151936, True),
        "7B": (28, 3584, 18944, 28, 4, 152064, False),
        "14B": (48, 5120, 13824, 40, 8, 152064, False),
    }.items()
}


def random_base(tokenizer_folder: str, folder: Path, size: str = "1.5B") -> str:
    """Write it, with the tokenizer of that folder, and return where it is."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    shape = Qwen2Config(
        **SHAPES[size],
        rope_parameters={"rope_theta": 1e6, "rope_type": "default"},
        rms_norm_eps=1e-6,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    with torch.device("cuda"):
        model = Qwen2ForCausalLM._from_config(shape, dtype=torch.bfloat16)  # noqa: SLF001
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    del model
    torch.cuda.empty_cache()
    return str(folder)
