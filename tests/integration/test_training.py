import json
import math
from contextlib import nullcontext

import pytest
import torch
import trl.trainer.utils
from safetensors.torch import load_file

from pii_finetune import training
from pii_finetune.base_model import load_base, load_tokenizer
from pii_finetune.dpo import dpo_rows, train_dpo
from pii_finetune.errors import TrainingDivergedError
from pii_finetune.overrides import apply_overrides
from pii_finetune.sft import sft_rows, train_sft

pytestmark = pytest.mark.slow


def test_sft_moves_every_adapter_weight_and_no_base_weight(config, sft):
    adapter, _ = sft
    before = {name: weight.clone() for name, weight in load_base(config.base).named_parameters()}
    weights = load_file(adapter.path / "adapter_model.safetensors")
    moved = [name for name, weight in weights.items() if "lora_B" in name and weight.abs().max() > 0]  # B starts at 0
    assert len(moved) == len([name for name in weights if "lora_B" in name]) == 4 * 7  # the upper four layers
    after = dict(load_base(config.base).named_parameters())
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_adapter_folder_holds_safetensors_and_its_config_only(sft):
    adapter, _ = sft
    assert sorted(path.name for path in adapter.path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    settings = json.loads((adapter.path / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "data/embedded-base"  # true on every machine


def test_updates_name_loss_learning_rate_and_gradient_norm_per_step(sft):
    _, updates = sft
    logged = [update for update in updates if "loss" in update.metrics]
    assert logged
    assert all({"loss", "learning_rate", "grad_norm"} <= set(update.metrics) for update in logged)
    assert all(update.num_steps == 6 for update in logged)
    assert any("eval_loss" in update.metrics for update in updates)


def test_dpo_starts_at_the_sft_adapter_and_leaves_one_adapter(config, splits, sft, tmp_path):
    adapter, _ = sft
    updates = []
    dpo = train_dpo(splits, adapter, config, tmp_path, updates.append)
    first = next(update.metrics for update in updates if "rewards/margins" in update.metrics)
    # Policy and reference are the same before the first step; they were asked in batches of another width.
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-6)
    assert sorted(path.name for path in dpo.path.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    start, end = (load_file(a.path / "adapter_model.safetensors") for a in (adapter, dpo))
    assert start.keys() == end.keys()
    assert all(not torch.equal(start[name], end[name]) for name in start)


def test_a_diverging_training_stops_naming_step_and_learning_rate(config, splits, tmp_path):
    hopeless = apply_overrides(
        config, {"sft.learning_rate": 1e30, "sft.warmup_steps": 0, "sft.max_grad_norm": 1e30, "sft.logging_steps": 1}
    )
    with pytest.raises(TrainingDivergedError, match=r"at step \d+, learning rate"):
        train_sft(splits, hopeless, tmp_path, lambda _: None)
    assert not (tmp_path / "adapter").exists()


def test_the_loss_is_on_answer_and_end_of_turn_only(config, splits):
    tokenizer = load_tokenizer(config.base)
    row = sft_rows(splits.train[:1], tokenizer)[0]
    assert row["completion"] in ("yes", "no")
    assert row["prompt"].endswith("<|im_start|>assistant\n")
    pair = dpo_rows(splits.train[:1], tokenizer)[0]
    assert {pair["chosen"], pair["rejected"]} == {"yes", "no"}
    assert pair["chosen"] == splits.train[0].answer


def test_equal_seeds_give_equal_adapters(config, splits, sft, tmp_path):
    adapter, updates = sft
    again = train_sft(splits, config, tmp_path, lambda _: None)
    first, second = (load_file(a.path / "adapter_model.safetensors") for a in (adapter, again))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert math.isfinite(updates[0].metrics["loss"])


def test_projecting_answers_only_gives_the_losses_and_gradients_of_trl(config, splits, tmp_path, monkeypatch):
    # SGD: what an adapter weight moves by is its gradient
    plain = {"optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 1e6, "max_steps": 3, "logging_steps": 1}
    settings = {f"{stage}.{name}": value for stage in ("sft", "dpo") for name, value in plain.items()}
    recipe = apply_overrides(config, {"trainer": "trl", **settings})

    def train(folder):
        losses = []
        keep = lambda update: losses.append(update.metrics["loss"]) if "loss" in update.metrics else None  # noqa: E731
        sft = train_sft(splits, recipe, folder / "sft", keep)
        dpo = train_dpo(splits, sft, recipe, folder / "dpo", keep)
        return losses, [load_file(adapter.path / "adapter_model.safetensors") for adapter in (sft, dpo)]

    losses, adapters = train(tmp_path / "ours")
    monkeypatch.setattr(training, "projecting_answers_only", nullcontext)
    reference_losses, reference_adapters = train(tmp_path / "trl")
    assert len(losses) == 6
    assert losses == pytest.approx(reference_losses, abs=1e-6)
    for adapter, reference in zip(adapters, reference_adapters, strict=True):
        moved = torch.cat([weight.flatten() for name, weight in sorted(adapter.items()) if "lora_B" in name])
        expected = torch.cat([weight.flatten() for name, weight in sorted(reference.items()) if "lora_B" in name])
        assert expected.norm() > 0
        assert (moved - expected).norm() / expected.norm() <= 1e-5


def test_a_training_on_a_cpu_projects_answer_and_end_of_turn_of_each_row_and_no_prompt(
    config, splits, tmp_path, monkeypatch
):
    projected, original = [], trl.trainer.utils._ChunkedLogProbFunction

    class Counting:
        @staticmethod
        def apply(hidden, *rest):
            projected.append(len(hidden))
            return original.apply(hidden, *rest)

    decides = trl.trainer.utils._use_triton
    monkeypatch.setattr(trl.trainer.utils, "_ChunkedLogProbFunction", Counting)
    quick = apply_overrides(config, {"trainer": "trl", "sft.max_steps": 1})
    train_sft(splits, quick, tmp_path, lambda _: None)
    assert projected[0] == 2 * quick.sft.per_device_train_batch_size
    assert trl.trainer.utils._use_triton is decides  # TRL is left as it was
