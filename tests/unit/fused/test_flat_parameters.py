import pytest
import torch

from pii_finetune.fused.flat_parameters import BLOCK, FlatParameters

SIZES = [(16, 40), (256, 16), (7, 3)]


def parameters():
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(size, generator=generator)) for size in SIZES]


def gradients(seed: int):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, generator=generator) for size in SIZES]


def test_flattening_changes_no_weight_and_each_begins_a_block():
    leaves, plain = parameters(), parameters()
    flat = FlatParameters(leaves)
    assert all(torch.equal(leaf, other) for leaf, other in zip(leaves, plain, strict=True))
    assert all(leaf.storage_offset() % BLOCK == 0 for leaf in leaves)
    assert flat.weights.numel() % BLOCK == 0


def test_adamw_over_the_flat_tensor_takes_the_very_steps_it_takes_over_each():
    leaves, plain = parameters(), parameters()
    flat = FlatParameters(leaves)
    over_one = torch.optim.AdamW([flat.weights], lr=1e-2, weight_decay=0.1)
    over_each = torch.optim.AdamW(plain, lr=1e-2, weight_decay=0.1)
    for step in range(5):
        flat.forget_gradients()
        flat.add_gradients(gradients(step))
        norm = flat.clip_gradients(1.0)
        for parameter, gradient in zip(plain, gradients(step), strict=True):
            parameter.grad = gradient
        assert norm.item() == pytest.approx(torch.nn.utils.clip_grad_norm_(plain, 1.0).item(), rel=1e-6)
        over_one.step()
        over_each.step()
    for leaf, parameter in zip(leaves, plain, strict=True):
        torch.testing.assert_close(leaf, parameter, rtol=1e-6, atol=1e-7)
    assert not flat.weights[flat.weights.numel() - 1]  # a gap, which no step has moved


def test_gradients_add_up_until_they_are_forgotten():
    flat = FlatParameters(parameters())
    flat.add_gradients(gradients(1))
    once = flat.gradient.clone()
    flat.add_gradients(gradients(1))
    assert torch.equal(flat.gradient, 2 * once)
    flat.forget_gradients()
    assert not flat.gradient.any()


def test_a_small_gradient_is_not_clipped():
    flat = FlatParameters(parameters())
    flat.add_gradients([gradient * 1e-6 for gradient in gradients(1)])
    before = flat.gradient.clone()
    flat.clip_gradients(1.0)
    assert torch.equal(flat.gradient, before)
