"""What a model answers to many prompts: one pass for all of them, after one for what they start with.

A batch holds of each prompt only what follows the common start, padded behind. Where it matters what comes after an
answer, both answers follow every prompt as branches, each at the position it would have alone and blind to the other:
the second token of greedy decoding without a second pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from pii_finetune.fused.decoder import hidden_after
from pii_finetune.fused.layout import shared_start
from pii_finetune.fused.prefix_cache import PrefixCache

# Tokens a prefix may be short of what a batch has in common and still serve it: labels happen to begin alike.
_NEARLY = 2
_KEYS_MULTIPLE_OF = 8  # CUDA's attention kernels want the mask's rows aligned to 16 bytes, and copy it otherwise


@dataclass(frozen=True)
class Greedy:
    """Of B prompts: how much the model leans to the first of two answers, and what greedy decoding would write."""

    margin: torch.Tensor  # (B,) log P(first answer) - log P(second), in nats
    is_answer: torch.Tensor  # (B, 2) bool: the likeliest token is the one answer, the other
    ends: torch.Tensor | None  # (B, 2) bool: after either answer the likeliest token ends the turn


def prefix_for(model: Any, prompts: Sequence[Sequence[int]], last: PrefixCache | None) -> PrefixCache:
    """Return what B prompts start with: `last`, of the batch before, if it serves them as well.

    Args:
        model: a Qwen2ForCausalLM, or a PeftModel around one, with the same weights as when `last` was made.
        prompts: as tokens.
        last: None for the first batch.
    """
    num_shared = shared_start(prompts)
    if last is not None and 0 <= num_shared - len(last) <= _NEARLY and tuple(prompts[0][: len(last)]) == last.tokens:
        return last
    return PrefixCache(_causal(model).model, prompts[0][:num_shared] if len(prompts) > 1 else ())


def answer_greedily(
    model: Any,
    prompts: Sequence[Sequence[int]],
    prefix: PrefixCache,
    answers: tuple[int, int],
    end: int,
    and_after: bool,
) -> Greedy:
    """Ask a Qwen2 model, or a PeftModel around one, about B prompts that are given as tokens.

    Args:
        model: as for `prefix_for`.
        prompts: all beginning with the prefix, and longer than it.
        prefix: from `prefix_for`.
        answers: the token of either answer.
        end: the token that ends a turn.
        and_after: whether to tell what follows an answer.
    """
    causal = _causal(model)
    tokens, lengths = _padded(prompts, len(prefix), 2 if and_after else 0, causal.device)
    slots = torch.arange(tokens.shape[1], device=tokens.device)
    first, second = slots == lengths[:, None], slots == lengths[:, None] + 1  # (B, S): where the answers stand
    positions = len(prefix) + slots - second.long()
    visible = slots <= slots[:, None]  # (S, S), causal; what pads stands last and nothing looks at it
    asked = lengths[:, None] - 1
    if and_after:
        tokens = tokens.masked_fill(first, answers[0]).masked_fill(second, answers[1])
        visible = visible & ~(second[:, :, None] & first[:, None, :])
        asked = asked + torch.arange(3, device=tokens.device)
    hidden = hidden_after(causal.model, prefix, tokens, positions, visible.expand(len(tokens), -1, -1), asked)
    # The two answers' logits once more in float32: in bfloat16 logits of 16 are told apart by 0.125.
    towards, away = (causal.lm_head.weight[answer].float() for answer in answers)
    likeliest = causal.lm_head(hidden).argmax(-1)  # (B, 1 or 3)
    # Compared with numbers: a tensor made of them here would have to reach the GPU first, and we would wait for it.
    return Greedy(
        margin=hidden[:, 0].float() @ (towards - away),
        is_answer=torch.stack([likeliest[:, 0] == answer for answer in answers], dim=-1),
        ends=likeliest[:, 1:] == end if and_after else None,
    )


def _padded(
    prompts: Sequence[Sequence[int]], num_shared: int, num_more: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what follows the start, (B, S), with room for further tokens, and how long it is, (B,)."""
    lengths = torch.tensor([len(prompt) - num_shared for prompt in prompts])
    flat = torch.tensor(list(chain.from_iterable(prompt[num_shared:] for prompt in prompts)))
    tokens = pad_sequence(list(flat.split(lengths.tolist())), batch_first=True)
    more = num_more
    if device.type == "cuda":
        more += -(num_shared + tokens.shape[1] + num_more) % _KEYS_MULTIPLE_OF
        tokens, lengths = tokens.pin_memory(), lengths.pin_memory()  # copied while the CPU goes on
    tokens, lengths = (each.to(device, non_blocking=True) for each in (tokens, lengths))
    return torch.nn.functional.pad(tokens, (0, more)), lengths


def _causal(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model
