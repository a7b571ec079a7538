"""TRL's DPOTrainer with the fused step."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from trl import DPOConfig, DPOTrainer
from trl.trainer.utils import use_adapter

from pii_finetune.config import FusedSettings
from pii_finetune.distributed.ranks import add_over_ranks, num_ranks, rank
from pii_finetune.fused.layout import Layout, Row
from pii_finetune.fused.losses import dpo_losses
from pii_finetune.fused.policy import AnswerScores
from pii_finetune.fused.trainer import FusedTrainer


class FusedDPOTrainer(FusedTrainer, DPOTrainer):
    """Rows have two answers, chosen and rejected; what the reference says of them is computed once."""

    args: DPOConfig
    per_token = False
    figure_names = (
        "entropy",
        "logits/chosen",
        "logits/rejected",
        "mean_token_accuracy",
        "rewards/chosen",
        "rewards/rejected",
        "rewards/accuracies",
        "rewards/margins",
        "logps/chosen",
        "logps/rejected",
    )

    def use_rows(self, train: Sequence[Row], evaluation: Sequence[Row], settings: FusedSettings) -> None:
        """As FusedTrainer's; what the reference says of the rows is not known yet."""
        super().use_rows(train, evaluation, settings)
        self._unasked, self._evaluation_asked = set(range(len(train))), False
        for references in (self.references, self.evaluation_references):
            references.fill_(torch.nan)  # a row that was never asked about must not pass for one

    def training_step(self, model: Any, inputs: Mapping[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """As FusedTrainer's, with the reference's log-probabilities, asked of all rows at once if all will be seen."""
        if missing := self._unasked.intersection(inputs["rows"]):
            if self._num_visits() * num_ranks() < len(self.train_rows):
                self.references[sorted(missing)] = self._asked(sorted(missing), self.train_rows)
                self._unasked -= missing
            else:
                self.references[:] = self._asked_together(self.train_rows)
                self._unasked.clear()
        return super().training_step(model, inputs, num_items_in_batch)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As FusedTrainer's, with the reference's log-probabilities."""
        if not self._evaluation_asked:
            self.evaluation_references[:] = self._asked_together(self.evaluation_rows)
            self._evaluation_asked = True
        return super().evaluate(*args, **kwargs)

    def _asked_together(self, rows: Sequence[Row]) -> torch.Tensor:
        """Return what the reference says of all rows, (rows, answers); each process asks about some of them."""
        said = torch.zeros(len(rows), len(rows[0].answers), device=self.args.device)
        own = range(rank(), len(rows), num_ranks())
        said[own] = self._asked(own, rows)
        add_over_ranks(said)
        return said

    def _asked(self, numbers: Sequence[int], rows: Sequence[Row]) -> torch.Tensor:
        """Return what the reference says of these rows, (numbers, answers)."""
        said = torch.zeros(len(numbers), len(rows[0].answers), device=self.args.device)
        with use_adapter(self.model, "ref"):
            for batch, _, scores in self.passes([rows[number] for number in numbers]):
                said[batch] = scores.log_probs[: len(batch)].sum(-1)
        return said

    def losses(self, scores: AnswerScores, layout: Layout, reference: torch.Tensor) -> torch.Tensor:
        """Return each row's loss (B,) under the configured loss types."""
        return dpo_losses(scores.log_probs, layout.counts, reference, self.beta, self.loss_types, self.loss_weights)

    def figures(self, scores: AnswerScores, layout: Layout, reference: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the means over rows, or over answer tokens, that TRL logs."""
        is_row = layout.counts[:, 0].amax(-1)
        num_rows, num_tokens = is_row.sum(), layout.counts.sum((0, 2))
        log_probs = scores.log_probs.detach().sum(-1)
        rewards = self.beta * (log_probs - reference) * is_row[:, None]
        chosen, rejected = (rewards.sum(0) / num_rows).unbind()
        mean_logits = scores.mean_logits.sum((0, 2)) / num_tokens
        return {
            "entropy": scores.entropy.sum() / layout.counts.sum(),
            "logits/chosen": mean_logits[0],
            "logits/rejected": mean_logits[1],
            "mean_token_accuracy": scores.is_top1[:, 0].sum() / num_tokens[0],
            "rewards/chosen": chosen,
            "rewards/rejected": rejected,
            "rewards/accuracies": ((rewards[:, 0] > rewards[:, 1]) * is_row).sum() / num_rows,
            "rewards/margins": chosen - rejected,
            "logps/chosen": log_probs[:, 0].sum() / num_rows,
            "logps/rejected": log_probs[:, 1].sum() / num_rows,
        }
