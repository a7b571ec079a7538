"""The losses of SFT and DPO as pure functions of answers' log-probabilities, row by row."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 # its usual name


def sft_losses(log_probs: torch.Tensor) -> torch.Tensor:
    """Return each row's negative log-likelihood (B,), summed over the answer's tokens (B, 1, T).

    Divided by the number of answer tokens in the batch this is TRL's `loss_type="nll"`.
    """
    return -log_probs.sum((1, 2))


def dpo_losses(
    log_probs: torch.Tensor,
    counts: torch.Tensor,
    reference: torch.Tensor,
    beta: float,
    loss_type: Sequence[str],
    loss_weights: Sequence[float],
) -> torch.Tensor:
    """Return each row's loss (B,), a weighted sum of those named, whose mean over the rows is TRL 1.16's.

    Args:
        log_probs: (B, 2, T) of the chosen and the rejected answer's tokens, 0 where `counts` is.
        counts: (B, 2, T) 1 for a token, 0 for none.
        reference: (B, 2) of whole answers under the reference model.
        beta: how strongly the policy is held to the reference.
        loss_type: `sigmoid`, DPO (Rafailov et al., 2023), eq. 7; `hinge`, SLiC (Zhao et al., 2023), eq. 2, with the
            reference in it; `ipo` (Azar et al., 2024), eq. 17, averaged over tokens; `sft`, the likelihood of the
            chosen answer, RPO (Pang et al., 2024), eq. 1.
        loss_weights: one for each.
    """
    ratios = log_probs.sum(-1) - reference
    margin = ratios[:, 0] - ratios[:, 1]
    lengths = counts.sum(-1).clamp(min=1)
    is_row = counts[:, 0].amax(-1)  # 0 for rows that only fill up the batch
    total = torch.zeros_like(margin)
    for name, weight in zip(loss_type, loss_weights, strict=True):
        if name == "sigmoid":
            losses = -F.logsigmoid(beta * margin)
        elif name == "hinge":
            losses = torch.relu(1 - beta * margin)
        elif name == "ipo":
            per_token = ratios / lengths
            losses = (per_token[:, 0] - per_token[:, 1] - 1 / (2 * beta)) ** 2
        elif name == "sft":  # the mean over all tokens of the batch, of which each row takes its share
            losses = -log_probs[:, 0].sum(-1) * is_row.sum() / counts[:, 0].sum()
        else:
            raise ValueError(f"no loss is called {name!r}")
        total = total + weight * losses
    return total * is_row
