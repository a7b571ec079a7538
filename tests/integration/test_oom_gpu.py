"""A GPU on which a micro-batch really does not fit, and half of it does."""

import gc
import logging
from pathlib import Path

import pytest
import torch

from pii_finetune.dpo import train_dpo
from pii_finetune.overrides import apply_overrides
from pii_finetune.profiles import seed
from pii_finetune.records import Record
from pii_finetune.scoring import Scorer
from pii_finetune.sft import train_sft
from pii_finetune.splits import Splits

pytestmark = [pytest.mark.slow, pytest.mark.gpu]

MICRO_BATCH = 512
WORDS = ["first name", "home address of the customer", "iban", "colour", "file size in bytes", "opening hours", "shoe"]
RECORDS = tuple(
    Record(f"{word} {n}", "English", at < 3, 7 * n + at + 2) for n in range(160) for at, word in enumerate(WORDS)
)
SPLITS = Splits(RECORDS[:1040], RECORDS[1040:1080], RECORDS[1080:])


@pytest.fixture(scope="module")
def recipe():
    """The seed profile on the embedded base, without dropout: what a step learns depends on its rows alone."""
    settings = {"max_steps": 4, "logging_steps": 1, "eval_steps": 100, "save_strategy": "steps", "save_steps": 1}
    settings["per_device_train_batch_size"] = MICRO_BATCH
    return apply_overrides(
        seed(),
        {
            "base.name": "data/embedded-base",
            "lora.lora_dropout": 0.0,
            **{f"{stage}.{name}": value for stage in ("sft", "dpo") for name, value in settings.items()},
        },
    )


@pytest.fixture
def with_memory():
    """Let PyTorch have so many bytes of the GPU, until the test ends."""

    def limit(num_bytes):
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(num_bytes / total)

    yield limit
    torch.cuda.set_per_process_memory_fraction(1.0)


def peak_of(work):
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    result = work()
    return torch.cuda.max_memory_reserved(), result


@pytest.mark.parametrize("stage", ["sft", "dpo"])
@pytest.mark.parametrize("kind", ["trl", "fused"])
def test_half_the_micro_batch_fits_where_the_whole_does_not_and_takes_the_same_steps(
    recipe, with_memory, tmp_path: Path, caplog, stage, kind
):
    start = train_sft(SPLITS, apply_overrides(recipe, {"sft.max_steps": 1}), tmp_path / "start", lambda _: None)

    def train(name, **more):
        config = apply_overrides(recipe, {"trainer": kind, **{f"{stage}.{key}": each for key, each in more.items()}})
        losses = []

        def on_update(update):
            losses.extend([update.metrics["loss"]] if "loss" in update.metrics else [])

        if stage == "sft":
            return train_sft(SPLITS, config, tmp_path / name, on_update), losses
        return train_dpo(SPLITS, start, config, tmp_path / name, on_update), losses

    half, _ = peak_of(
        lambda: train("half", per_device_train_batch_size=MICRO_BATCH // 2, gradient_accumulation_steps=2)
    )
    full, (_, expected) = peak_of(lambda: train("full"))
    assert full > 1.2 * half, f"{full:,} bytes for the whole, {half:,} for half: the test needs larger batches"

    gc.collect()
    torch.cuda.empty_cache()
    with_memory((half + full) // 2)
    with caplog.at_level(logging.WARNING, logger="pii_finetune"):
        adapter, losses = train("limited")
    assert adapter.micro_batch_after_oom == MICRO_BATCH // 2
    assert adapter.num_steps == 4
    assert f"{stage}: memory does not suffice for a micro-batch of {MICRO_BATCH}" in caplog.text
    assert losses == pytest.approx(expected, rel=0.02, abs=0.02)


def test_scoring_answers_the_same_in_less_memory(recipe, with_memory, caplog):
    questions = [(record.label, record.language) for record in RECORDS]
    base = recipe.base.model_copy(update={"quantization": "none", "dtype": "float32"})
    expected = Scorer(base, {}, batch_size=8).score(questions, None)

    def score(batch_size):
        return peak_of(lambda: Scorer(base, {}, batch_size).score(questions, None))[0]

    few, many = score(64), score(1024)
    assert many > 1.2 * few, f"{many:,} bytes for 1024 rows, {few:,} for 64"
    gc.collect()
    torch.cuda.empty_cache()
    with_memory((few + many) // 2)
    found = Scorer(base, {}, batch_size=1024).score(questions, None)
    assert "memory does not suffice to ask the model about 1024 rows at once" in caplog.text
    assert abs(found.margin - expected.margin).max() <= 1e-3  # TF32 or not, sums in another order
    assert (found.valid == expected.valid).all()
