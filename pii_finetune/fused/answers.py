"""What a model answers to many prompts: one pass for all of them, with what they start with run once.

Where it matters what comes after an answer, both answers follow every prompt, each at the position it would have alone
and blind to the other: the second token of greedy decoding without a second pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pii_finetune.fused.layout import shared_start
from pii_finetune.fused.packed import hidden_where_asked, pack


@dataclass(frozen=True)
class Greedy:
    """Of B prompts: how much the model leans to the first of two answers, and what greedy decoding would write."""

    margin: torch.Tensor  # (B,) log P(first answer) - log P(second), in nats
    is_answer: torch.Tensor  # (B, 2) bool: the likeliest token is the one answer, the other
    ends: torch.Tensor | None  # (B, 2) bool: after either answer the likeliest token ends the turn


def answer_greedily(
    model: Any,
    prompts: Sequence[Sequence[int]],
    answers: tuple[int, int],
    end: int,
    and_after: bool,
) -> Greedy:
    """Ask a model about prompts that are given as tokens.

    Args:
        model: any Qwen2ForCausalLM, or a PeftModel around one, without dropout.
        prompts: B of them; what all start with is run once.
        answers: the token of either answer.
        end: the token that ends a turn.
        and_after: whether to tell what follows an answer.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    num_shared = shared_start(prompts) if len(prompts) > 1 else 0
    packing = pack(prompts, num_shared, answers if and_after else (), causal.device)
    hidden = hidden_where_asked(causal.model, packing)
    # The two answers' logits once more in float32: in bfloat16 logits of 16 are told apart by 0.125.
    towards, away = (causal.lm_head.weight[answer].float() for answer in answers)
    likeliest = causal.lm_head(hidden).argmax(-1)  # (B, 1 or 3)
    # Compared with numbers: a tensor made of them here would have to reach the GPU first, and we would wait for it.
    return Greedy(
        margin=hidden[:, 0].float() @ (towards - away),
        is_answer=torch.stack([likeliest[:, 0] == answer for answer in answers], dim=-1),
        ends=likeliest[:, 1:] == end if and_after else None,
    )
