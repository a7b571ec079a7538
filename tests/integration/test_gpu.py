"""QLoRA on an NVIDIA GPU, with the embedded base in place of the big one."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pii_finetune.base_model import load_base
from pii_finetune.dpo import train_dpo
from pii_finetune.overrides import apply_overrides
from pii_finetune.profiles import seed
from pii_finetune.scoring import Scorer
from pii_finetune.sft import train_sft

pytestmark = [pytest.mark.slow, pytest.mark.gpu]


@pytest.fixture(scope="module")
def qlora(small_workbook):
    """The seed profile, cut to seconds."""
    return apply_overrides(
        seed(),
        {
            "base.name": "data/embedded-base",
            "data.workbook": str(small_workbook),
            "sft.max_steps": 4,
            "dpo.max_steps": 4,
            "sft.logging_steps": 1,
            "dpo.logging_steps": 1,
        },
    )


def test_the_seed_profile_loads_every_projection_of_the_base_in_nf4(qlora):
    import bitsandbytes

    model = load_base(qlora.base)
    linear = {name: m for name, m in model.named_modules() if name.endswith("_proj")}
    assert len(linear) == 6 * 7
    assert all(isinstance(m, bitsandbytes.nn.Linear4bit) for m in linear.values())
    assert {m.weight.quant_type for m in linear.values()} == {"nf4"}
    assert all(m.weight.device.type == "cuda" for m in linear.values())


def test_sft_then_dpo_move_the_adapter_of_an_nf4_base_and_it_scores(qlora, splits, tmp_path: Path):
    updates = []
    sft = train_sft(splits, qlora, tmp_path / "sft", updates.append)
    dpo = train_dpo(splits, sft, qlora, tmp_path / "dpo", updates.append)
    first, second = (load_file(a.path / "adapter_model.safetensors") for a in (sft, dpo))
    b_weights = [name for name in first if "lora_B" in name]
    assert len(b_weights) == 6 * 2  # query and value
    assert all(first[name].abs().max() > 0 for name in b_weights)  # B starts at 0
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert all(torch.isfinite(weight).all() for weight in second.values())
    margins = [u.metrics["rewards/margins"] for u in updates if "rewards/margins" in u.metrics]
    assert margins[0] == pytest.approx(0, abs=1e-3)  # policy and reference are the same before the first step
    scorer = Scorer(qlora.base, {"dpo": dpo.path}, qlora.evaluation.batch_size)
    scores = scorer.score([("first name", "English"), ("file size", None)], adapter="dpo")
    assert ((scores.probability > 0) & (scores.probability < 1)).all()


def test_a_gpu_and_a_cpu_give_one_answer(config, sft):
    adapter, _ = sft
    questions = [(f"label {n}", "English") for n in range(40)]
    on_cpu = Scorer(config.base, {"sft": adapter.path}, 16).score(questions, adapter="sft")
    moved = apply_overrides(config, {"base.device": "cuda"})
    on_gpu = Scorer(moved.base, {"sft": adapter.path}, 16).score(questions, adapter="sft")
    assert on_gpu.probability == pytest.approx(on_cpu.probability, abs=1e-4)
