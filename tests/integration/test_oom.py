import logging

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer

from pii_finetune import scoring
from pii_finetune.dpo import train_dpo
from pii_finetune.errors import OutOfMemoryError
from pii_finetune.fused.trainer import FusedTrainer
from pii_finetune.overrides import apply_overrides
from pii_finetune.scoring import Scorer
from pii_finetune.sft import train_sft

pytestmark = pytest.mark.slow
TOLD = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1.00 GiB free. Including non-PyTorch memory, more."
STEPS = 6


@pytest.fixture
def train(config, splits, sft, tmp_path):
    def run(stage, trainer, name, on_update=lambda _: None, **more):
        settings = {
            "max_steps": STEPS,
            "save_steps": 2,
            "logging_steps": 1,
            "per_device_train_batch_size": 8,
            **more,
        }
        changes = {"trainer": trainer, "lora.lora_dropout": 0.0, **{f"{stage}.{k}": v for k, v in settings.items()}}
        recipe = apply_overrides(config, changes)
        if stage == "sft":
            return train_sft(splits, recipe, tmp_path / name, on_update)
        return train_dpo(splits, sft[0], recipe, tmp_path / name, on_update)

    return run


@pytest.fixture
def small_memory(monkeypatch):
    """Have real steps fail, from the fifth on, that take more rows at once than would fit."""

    def set_limit(num_rows, first_step=4):
        for kind in (Trainer, FusedTrainer):
            monkeypatch.setattr(kind, "training_step", failing(kind.training_step, num_rows, first_step))

    return set_limit


def failing(real, num_rows, first_step):
    def training_step(self, *arguments, **named):
        loss = real(self, *arguments, **named)
        if self.args.per_device_train_batch_size > num_rows and self.state.global_step >= first_step:
            raise torch.OutOfMemoryError(TOLD)
        return loss

    return training_step


@pytest.mark.parametrize("stage", ["sft", "dpo"])
@pytest.mark.parametrize("trainer", ["trl", "fused"])
def test_half_the_micro_batch_goes_on_from_the_checkpoint_and_learns_the_same(
    train, small_memory, caplog, stage, trainer
):
    whole = train(stage, trainer, "whole")
    assert whole.micro_batch_after_oom is None
    small_memory(4)
    updates = []
    with caplog.at_level(logging.INFO, logger="pii_finetune"):
        halved = train(stage, trainer, "halved", updates.append)
    assert halved.micro_batch_after_oom == 4
    assert halved.num_steps == STEPS
    assert "going on from checkpoint-4" in caplog.text
    [told] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert f"{stage}: memory does not suffice for a micro-batch of 8" in told
    assert "Tried to allocate 2.00 GiB" in told
    assert "8 rows a step as before" in told
    assert f"{stage}.per_device_train_batch_size=4, {stage}.gradient_accumulation_steps=2" in told
    assert [step for step, _ in halved.curves["loss"]] == list(range(1, STEPS + 1))
    one, other = (load_file(adapter.path / "adapter_model.safetensors") for adapter in (whole, halved))
    start = train(stage, trainer, "start", max_steps=4, save_strategy="no")
    first = load_file(start.path / "adapter_model.safetensors")
    moved = max((first[name] - one[name]).abs().max() for name in one)
    assert max((one[name] - other[name]).abs().max() for name in one) < 0.02 * moved


def test_a_second_want_of_memory_is_told_in_one_line(train, small_memory):
    small_memory(1)
    with pytest.raises(OutOfMemoryError, match="a micro-batch of 8, nor for one of 4") as caught:
        train("sft", "fused", "twice")
    assert "\n" not in str(caught.value)
    assert "sft.gradient_accumulation_steps" in str(caught.value)
    assert "a rerun goes on from the newest" in str(caught.value)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_micro_batch_that_cannot_be_halved_is_told_in_one_line(train, small_memory, batch_size):
    small_memory(0, first_step=0)
    with pytest.raises(OutOfMemoryError, match=f"a micro-batch of {batch_size} .*cannot be halved evenly") as caught:
        train("sft", "trl", "odd", per_device_train_batch_size=batch_size)
    assert "\n" not in str(caught.value)


def test_other_errors_of_a_training_are_not_taken_for_want_of_memory(train):
    def fail(_):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        train("sft", "fused", "bug", fail)


QUESTIONS = [(f"column {number}", "English") for number in range(40)]


def test_scoring_asks_about_fewer_rows_at_once_and_answers_the_same(config, sft, monkeypatch, caplog):
    scorer = Scorer(config.base, {"sft": sft[0].path}, batch_size=32)
    expected = scorer.score(QUESTIONS, "sft")
    real, asked = scoring.answer_greedily, []

    def in_small_memory(model, prompts, *arguments, **named):
        asked.append(len(prompts))
        if len(prompts) > 10:
            raise torch.OutOfMemoryError(TOLD)
        return real(model, prompts, *arguments, **named)

    monkeypatch.setattr(scoring, "answer_greedily", in_small_memory)
    found = scorer.score(QUESTIONS, "sft")
    assert abs(found.margin - expected.margin).max() <= 1e-5
    assert (found.valid == expected.valid).all()
    assert sorted(asked) == [8, 8, 8, 8, 8, 16, 32]
    assert "memory does not suffice to ask the model about 32 rows at once" in caplog.text
    asked.clear()
    scorer.score(QUESTIONS, "sft")
    assert asked == [8] * 5  # what did not fit is not tried again


def test_memory_for_less_than_one_row_is_told_in_one_line(config, sft, monkeypatch):
    def no_memory(*_, **__):
        raise torch.OutOfMemoryError(TOLD)

    scorer = Scorer(config.base, {"sft": sft[0].path}, batch_size=4)
    monkeypatch.setattr(scoring, "answer_greedily", no_memory)
    with pytest.raises(OutOfMemoryError, match="a single row") as caught:
        scorer.score(QUESTIONS, "sft")
    assert "\n" not in str(caught.value)
