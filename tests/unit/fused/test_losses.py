import math

import pytest
import torch

from pii_finetune.fused.losses import dpo_losses, sft_losses

# Two rows, chosen and rejected answers of two tokens; the third row only fills up the batch.
LOG_PROBS = torch.tensor([[[-0.1, -0.2], [-2.0, -0.5]], [[-0.3, -0.4], [-1.0, -0.1]], [[0.0, 0.0], [0.0, 0.0]]])
COUNTS = torch.tensor([[[1.0, 1.0]] * 2] * 2 + [[[0.0, 0.0]] * 2])
REFERENCE = torch.tensor([[-0.5, -2.0], [-0.6, -1.3], [-9.0, -1.0]])
MARGINS = [(-0.3 + 0.5) - (-2.5 + 2.0), (-0.7 + 0.6) - (-1.1 + 1.3)]


def losses(*names: str, weights=None, beta=0.1):
    return dpo_losses(LOG_PROBS, COUNTS, REFERENCE, beta, names, weights or [1.0] * len(names))


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("sigmoid", lambda margin: -math.log(1 / (1 + math.exp(-0.1 * margin)))),
        ("hinge", lambda margin: max(0.0, 1 - 0.1 * margin)),
        ("ipo", lambda margin: (margin / 2 - 1 / 0.2) ** 2),  # answers of two tokens: the margin per token is half
    ],
)
def test_a_loss_is_its_formula_and_filling_rows_add_nothing(name, formula):
    assert losses(name).tolist() == pytest.approx([*map(formula, MARGINS), 0.0], rel=1e-5)


def test_sft_is_the_mean_over_the_chosen_tokens():
    assert losses("sft").mean() * 3 / 2 == pytest.approx((0.1 + 0.2 + 0.3 + 0.4) / 4)


def test_losses_are_added_by_their_weights():
    both = losses("sigmoid", "hinge", weights=[0.25, 2.0])
    assert torch.allclose(both, 0.25 * losses("sigmoid") + 2.0 * losses("hinge"))


def test_a_loss_of_another_name_is_refused():
    with pytest.raises(ValueError, match="orpo"):
        losses("orpo")


def test_sft_losses_sum_over_an_answers_tokens():
    assert sft_losses(LOG_PROBS[:, :1]).tolist() == pytest.approx([0.3, 0.7, 0.0])
