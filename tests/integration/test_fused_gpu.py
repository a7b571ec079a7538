"""The fused trainers on an NVIDIA GPU: CUDA graphs, nf4 written out once, 8-bit AdamW over one tensor."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pii_finetune.base_model import load_base
from pii_finetune.dpo import dpo_trainer, train_dpo
from pii_finetune.fused.dequantize import dequantize_once
from pii_finetune.fused.flat_parameters import FlatParameters, without_waiting
from pii_finetune.fused.graphs import GraphedStep
from pii_finetune.overrides import apply_overrides
from pii_finetune.profiles import seed
from pii_finetune.records import Record
from pii_finetune.sft import sft_trainer, train_sft
from pii_finetune.splits import Splits

pytestmark = [pytest.mark.slow, pytest.mark.gpu]

WORDS = ["first name", "home address of the customer", "iban", "colour", "file size in bytes", "opening hours", "shoe"]
RECORDS = tuple(Record(f"{word} {n}", "English", at < 3, 7 * n + at) for n in range(8) for at, word in enumerate(WORDS))
SPLITS = Splits(RECORDS[:40], RECORDS[40:48], RECORDS[48:])


@pytest.fixture(scope="module")
def recipe():
    """The seed profile on the embedded base, with adapters large enough for 8-bit AdamW, and no dropout."""
    settings = {"max_steps": 12, "logging_steps": 1, "eval_steps": 6, "save_strategy": "no"}
    return apply_overrides(
        seed(),
        {
            "base.name": "data/embedded-base",
            "lora.target_modules": ["q_proj", "o_proj"],
            "lora.lora_dropout": 0.0,
            **{f"{stage}.{name}": value for stage in ("sft", "dpo") for name, value in settings.items()},
        },
    )


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_a_graph_takes_the_steps_of_trl_as_nearly_as_bfloat16_lets_it(recipe, tmp_path: Path, stage):
    start = train_sft(SPLITS, recipe, tmp_path / "start", lambda _: None)
    assert start.fallback is None
    losses = {}
    for kind in ("trl", "fused"):
        config, log = apply_overrides(recipe, {"trainer": kind}), []
        if stage == "sft":
            train_sft(SPLITS, config, tmp_path / kind, log.append)
        else:
            train_dpo(SPLITS, start, config, tmp_path / kind, log.append)
        losses[kind] = [u.metrics["loss"] for u in log if "loss" in u.metrics]
    assert len(losses["fused"]) == 12
    assert losses["fused"] == pytest.approx(losses["trl"], rel=0.02, abs=0.02)


def test_every_shape_of_batch_is_recorded_once_and_every_adapter_weight_moves(recipe, tmp_path: Path):
    trainer, _ = sft_trainer(SPLITS, apply_overrides(recipe, {"sft.max_steps": 60}), tmp_path, lambda _: None)
    before = {n: weight.detach().clone() for n, weight in trainer.model.named_parameters() if weight.requires_grad}
    trainer.train()
    assert isinstance(trainer._step, GraphedStep)
    assert 1 <= trainer._step.num_graphs <= 3
    after = dict(trainer.model.named_parameters())
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_compiled_layers_take_the_steps_of_eager_ones(recipe, tmp_path: Path):
    losses = {}
    for compiles in (False, True):
        config, log = apply_overrides(recipe, {"fused.compile_layers": compiles}), []
        train_sft(SPLITS, config, tmp_path / str(compiles), log.append)
        losses[compiles] = [u.metrics["loss"] for u in log if "loss" in u.metrics]
    assert losses[True] == pytest.approx(losses[False], rel=0.02, abs=0.02)


def test_writing_nf4_out_once_changes_no_value(recipe):
    quantized, plain = load_base(recipe.base), load_base(recipe.base)
    assert dequantize_once(plain)
    assert type(plain.model.layers[0].mlp.up_proj) is torch.nn.Linear
    tokens = torch.arange(300, 364, device="cuda")[None].repeat(2, 1)
    with torch.no_grad():
        expected, found = quantized(tokens).logits, plain(tokens).logits
    assert torch.equal(expected, found)


@pytest.mark.parametrize("name", ["AdamW8bit", "PagedAdamW8bit"])
def test_8_bit_adamw_over_one_tensor_is_bitwise_that_over_each(name):
    import bitsandbytes

    torch.manual_seed(0)
    shapes = [(16, 1536), (1536, 16), (256, 16)]
    each = [torch.nn.Parameter(torch.randn(shape, device="cuda", dtype=torch.bfloat16)) for shape in shapes]
    leaves = [torch.nn.Parameter(parameter.detach().clone()) for parameter in each]
    flat = FlatParameters(leaves)
    kind = getattr(bitsandbytes.optim, name)
    over_each, over_one = kind(each, lr=1e-2), without_waiting(kind)([flat.weights], lr=1e-2)
    for _ in range(20):
        gradients = [torch.randn_like(parameter) for parameter in each]
        for parameter, gradient in zip(each, gradients, strict=True):
            parameter.grad = gradient
        flat.forget_gradients()
        flat.add_gradients(gradients)
        over_each.step()
        over_one.step()
    torch.cuda.synchronize()
    assert all(torch.equal(leaf, parameter) for leaf, parameter in zip(leaves, each, strict=True))


def test_recording_a_step_is_not_taking_it():
    total = torch.zeros((), device="cuda")
    step = GraphedStep(lambda inputs: total.add_(inputs[0].sum()), [total])
    for expected, given in ((3.0, torch.ones(3)), (5.0, torch.ones(2)), (8.0, torch.ones(3))):
        step([given])
        assert total.item() == expected
    assert step.num_graphs == 2


def test_dropout_is_drawn_anew_in_every_replay():
    found = torch.zeros(64, device="cuda")
    step = GraphedStep(lambda inputs: found.copy_(torch.nn.functional.dropout(inputs[0], 0.5)), [found])
    masks = []
    for _ in range(3):
        step([torch.ones(64, device="cuda")])
        masks.append(found.clone())
    assert not torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[1], masks[2])


def test_the_adapter_of_a_dpo_run_is_the_one_that_was_trained(recipe, tmp_path: Path):
    sft = train_sft(SPLITS, recipe, tmp_path / "sft", lambda _: None)
    trainer, _ = dpo_trainer(SPLITS, sft.path, recipe, tmp_path / "one", lambda _: None)
    start = {name: weight.clone() for name, weight in trainer.model.named_parameters() if ".ref." in name}
    trainer.train()
    assert all(torch.equal(start[name], dict(trainer.model.named_parameters())[name]) for name in start)
    dpo = train_dpo(SPLITS, sft, recipe, tmp_path / "dpo", lambda _: None)
    saved = load_file(dpo.path / "adapter_model.safetensors")
    first = load_file(sft.path / "adapter_model.safetensors")
    assert saved.keys() == first.keys()
    assert any(not torch.equal(saved[name], first[name]) for name in saved)
