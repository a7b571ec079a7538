"""TRL's SFTTrainer with the fused step."""

import torch
from trl import SFTTrainer

from pii_finetune.fused.layout import Layout
from pii_finetune.fused.losses import sft_losses
from pii_finetune.fused.policy import AnswerScores
from pii_finetune.fused.trainer import FusedTrainer


class FusedSFTTrainer(FusedTrainer, SFTTrainer):
    """Rows have one answer each; the loss is the mean over answer tokens."""

    per_token = True
    figure_names = ("entropy", "mean_token_accuracy")

    def losses(self, scores: AnswerScores, layout: Layout, reference: torch.Tensor) -> torch.Tensor:
        """Return each row's negative log-likelihood (B,)."""
        return sft_losses(scores.log_probs)

    def figures(self, scores: AnswerScores, layout: Layout, reference: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the means over answer tokens."""
        num_tokens = layout.counts.sum()
        return {"entropy": scores.entropy.sum() / num_tokens, "mean_token_accuracy": scores.is_top1.sum() / num_tokens}
