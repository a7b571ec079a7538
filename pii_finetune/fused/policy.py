"""The model's side of a step: log-probabilities of the answers, and nothing else of the vocabulary's projection."""

from dataclasses import dataclass
from typing import Any

import torch

from pii_finetune.fused.decoder import FrozenStart, hidden_where_asked
from pii_finetune.fused.layout import Layout


@dataclass(frozen=True)
class AnswerScores:
    """What the model says of each answer token; (B, A, T) each, and 0 where the layout's `counts` is 0."""

    log_probs: torch.Tensor
    entropy: torch.Tensor  # nats, of the whole vocabulary; no gradient
    mean_logits: torch.Tensor  # no gradient
    is_top1: torch.Tensor  # 1.0 where the token is the likeliest


def score_answers(model: Any, layout: Layout, start: FrozenStart | None = None) -> AnswerScores:
    """Run the decoder over a layout and project only the positions before answer tokens on the vocabulary.

    Args:
        model: a Qwen2ForCausalLM, or a PeftModel around one.
        layout: on the model's device.
        start: the table in which the layout's `source` looks up, if the lowest layers need not be run.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = hidden_where_asked(causal.model, layout, start)
    logits = causal.lm_head(hidden).float()  # (G * Q, V)
    everything = logits.log_softmax(-1)
    picked = layout.looked_up.flatten()
    log_probs = everything[picked, layout.targets.flatten()]
    with torch.no_grad():
        entropy = -(everything.exp() * everything).sum(-1)[picked]
        mean_logits, is_top1 = logits.mean(-1)[picked], logits.argmax(-1)[picked] == layout.targets.flatten()
    return AnswerScores(
        *(each.view(layout.counts.shape) * layout.counts for each in (log_probs, entropy, mean_logits, is_top1))
    )
