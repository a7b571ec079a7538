"""The fused trainers against TRL's own, which are the reference."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer

from pii_finetune.base_model import load_base, load_tokenizer
from pii_finetune.dpo import answers as pair
from pii_finetune.dpo import dpo_rows, train_dpo
from pii_finetune.fused import decoder, trainer
from pii_finetune.fused.fallback import why_not_fused
from pii_finetune.fused.rows import tokenize
from pii_finetune.overrides import apply_overrides
from pii_finetune.sft import answers as right
from pii_finetune.sft import sft_rows, train_sft

pytestmark = pytest.mark.slow

STAGES = ("sft", "dpo")


def both(settings):
    return {f"{stage}.{name}": value for stage in STAGES for name, value in settings.items()}


def weights(adapter):
    return load_file(adapter.path / "adapter_model.safetensors")


@pytest.fixture
def train(config, splits, sft, tmp_path):
    """Run one stage by one trainer; return its adapter and its log."""

    def run(stage: str, kind: str, settings: dict, **other):
        recipe = apply_overrides(config, {"trainer": kind, **both({"logging_steps": 1, **settings}), **other})
        log, folder = [], tmp_path / f"{stage}-{kind}-{len(list(tmp_path.iterdir()))}"
        if stage == "sft":
            return train_sft(splits, recipe, folder, log.append), log
        return train_dpo(splits, sft[0], recipe, folder, log.append), log

    return run


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 5},
        {"weight_decay": 0.1, "max_grad_norm": 0.01},
    ],
    ids=["as-is", "accumulating", "clipping"],
)
def test_losses_gradient_norms_and_figures_are_those_of_trl(train, stage, settings):
    settings = {"max_steps": 4, "learning_rate": 1e-3, "warmup_steps": 0, **settings}
    _, reference = train(stage, "trl", settings)
    _, ours = train(stage, "fused", settings)
    steps = [[u.metrics for u in log if "loss" in u.metrics] for log in (reference, ours)]
    assert len(steps[0]) == len(steps[1]) == 4
    for expected, found in zip(*steps, strict=True):
        assert found.keys() == expected.keys()
        # float32 keeps 1.2e-7 of a number; in sums of other order the loss was 1.7e-6 of itself apart on one processor.
        assert found["loss"] == pytest.approx(expected["loss"], rel=5e-6, abs=1e-6), (found, expected)
        for name in expected.keys() - {"loss", "rewards/accuracies"}:  # equal rewards, at the start, tie by rounding
            assert found[name] == pytest.approx(expected[name], rel=2e-5, abs=2e-5), name


@pytest.mark.parametrize("stage", STAGES)
def test_gradients_are_those_of_trl(train, sft, stage):
    # With SGD, no momentum and no clipping, what a weight has moved by in one step is its gradient.
    once = {"optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 1e6, "max_steps": 1, "warmup_steps": 0}
    start = {} if stage == "sft" else weights(sft[0])
    moved = []
    for kind in ("trl", "fused"):
        adapter, _ = train(stage, kind, {**once, "lr_scheduler_type": "constant"})
        end = weights(adapter)
        names = [name for name in sorted(end) if stage == "dpo" or "lora_B" in name]  # B starts at 0, A is drawn
        moved.append(torch.cat([(end[name] - start.get(name, 0)).flatten() for name in names]))
    assert moved[0].norm() > 0
    # What is measured is a difference of weights in float32, which by itself is off by some 1e-6 of the gradient.
    assert (moved[1] - moved[0]).norm() / moved[0].norm() <= 1e-5


@pytest.mark.parametrize("stage", STAGES)
def test_an_epoch_with_a_rest_ends_with_the_adapter_of_trl(train, stage, splits):
    batch = 9
    assert len(splits.train) % batch
    settings = {"max_steps": -1, "num_train_epochs": 1, "per_device_train_batch_size": batch, "warmup_steps": 0}
    expected, found = (weights(train(stage, kind, settings)[0]) for kind in ("trl", "fused"))
    difference = sum(float((found[name] - expected[name]).square().sum()) for name in expected)
    size = sum(float(value.square().sum()) for value in expected.values())
    assert (
        difference / size
    ) ** 0.5 <= 1e-3  # AdamW divides by the gradient's size: where that is tiny, rounding shows


@pytest.mark.parametrize("stage", STAGES)
def test_the_validation_loss_is_that_of_trl(train, stage, splits):
    settings = {"max_steps": 2, "eval_steps": 1, "per_device_eval_batch_size": 1_000}  # TRL weighs batches unevenly
    # Three rows a sequence: the last one is filled up, and what fills it counts for nothing.
    logs = [train(stage, kind, settings, **{"fused.rows_per_sequence": 3})[1] for kind in ("trl", "fused")]
    assert len(splits.validation) % 3
    losses = [[u.metrics["eval_loss"] for u in log if "eval_loss" in u.metrics] for log in logs]
    assert len(losses[0]) == 2
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_the_tokens_are_those_trl_makes(config, splits):
    from trl import DPOTrainer, SFTTrainer

    tokenizer = load_tokenizer(config.base)

    class Prepares:  # what TRL's preparation asks of a trainer
        _tokenizer, completion_only_loss, chat_template = tokenizer, True, None
        _is_vision_dataset = False

    records = splits.train[:40]
    ours = tokenize(records, tokenizer, right)
    from trl import DPOConfig, SFTConfig

    on_cpu = {"use_cpu": True, "bf16": False, "max_length": None}
    theirs = SFTTrainer._prepare_dataset(
        Prepares(), sft_rows(records, tokenizer), tokenizer, SFTConfig(**on_cpu), False, None, "train"
    )
    assert [[*row.prompt, *row.answers[0]] for row in ours] == list(theirs["input_ids"])
    pairs = DPOTrainer._prepare_dataset(
        Prepares(), dpo_rows(records, tokenizer), tokenizer, DPOConfig(**on_cpu), "train"
    )
    for row, expected in zip(tokenize(records, tokenizer, pair), pairs, strict=True):
        assert list(row.prompt) == expected["prompt_ids"]
        assert [list(answer) for answer in row.answers] == [expected["chosen_ids"], expected["rejected_ids"]]


def test_dropout_is_drawn_for_every_row_by_itself(train, monkeypatch):
    shapes = []
    real = trainer.lay_out
    monkeypatch.setattr(trainer, "lay_out", lambda *a, **k: shapes.append((a[1], a[2])) or real(*a, **k))
    train("sft", "fused", {"max_steps": 1, "eval_steps": 100}, **{"lora.lora_dropout": 0.1})
    assert shapes[0] == (0, 1)  # nothing shared, one row a sequence
    shapes.clear()
    train("sft", "fused", {"max_steps": 1, "eval_steps": 100})
    assert shapes[0][0] > 10


def test_dpo_drops_nothing_out_and_shares_as_trl_switches_dropout_off_there(train, monkeypatch):
    shapes = []
    real = trainer.lay_out
    monkeypatch.setattr(trainer, "lay_out", lambda *a, **k: shapes.append((a[1], a[2])) or real(*a, **k))
    train("dpo", "fused", {"max_steps": 1, "eval_steps": 100}, **{"lora.lora_dropout": 0.1})
    assert all(num_shared > 10 for num_shared, _ in shapes)


def test_layers_without_adapters_are_run_once_for_every_row_and_change_nothing(train, monkeypatch):
    epochs = {"max_steps": -1, "num_train_epochs": 2, "eval_steps": 1_000}
    starts = []
    real = trainer.score_answers
    monkeypatch.setattr(trainer, "score_answers", lambda m, la, start: starts.append(start) or real(m, la, start))
    _, with_table = train("sft", "fused", epochs)
    assert {start.num_layers for start in starts} == {2}
    monkeypatch.setattr(trainer, "_LARGEST_TABLE_BYTES", 0)
    starts.clear()
    _, without = train("sft", "fused", epochs)
    assert set(starts) == {None}
    losses = [[u.metrics["loss"] for u in log if "loss" in u.metrics] for log in (with_table, without)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_the_reference_is_asked_about_no_row_twice_and_about_none_that_is_not_seen(train, monkeypatch, splits):
    from pii_finetune.fused.dpo import FusedDPOTrainer

    asked = []
    real = FusedDPOTrainer._asked

    def ask(self, numbers, rows):
        asked.append((len(rows), list(numbers)))
        return real(self, numbers, rows)

    monkeypatch.setattr(FusedDPOTrainer, "_asked", ask)
    train("dpo", "fused", {"max_steps": 2, "per_device_train_batch_size": 4, "eval_steps": 100})
    train_side = [number for size, numbers in asked if size == len(splits.train) for number in numbers]
    assert len(train_side) == len(set(train_side)) == 8
    asked.clear()
    train("dpo", "fused", {"max_steps": -1, "num_train_epochs": 2, "eval_steps": 1_000})
    train_side = [number for size, numbers in asked if size == len(splits.train) for number in numbers]
    assert sorted(train_side) == list(range(len(splits.train)))


def test_a_training_that_goes_on_from_a_checkpoint_ends_as_one_that_never_stopped(train, monkeypatch, tmp_path):
    settings = {"max_steps": -1, "num_train_epochs": 2, "save_strategy": "epoch", "save_total_limit": 5}
    whole, _ = train("sft", "fused", settings)
    checkpoint = min(
        (whole.path.parent / "checkpoints").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1])
    )
    real = Trainer.train
    monkeypatch.setattr(Trainer, "train", lambda self, **_: real(self, resume_from_checkpoint=str(checkpoint)))
    resumed, log = train("sft", "fused", settings)
    assert min(u.step for u in log) > int(checkpoint.name.split("-")[1])
    expected, found = weights(whole), weights(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"sft.optim": "adafactor"}, "adafactor"),
        ({"sft.optim": "paged_adamw_8bit", "lora.r": 8}, "a larger lora.r"),
    ],
)
def test_what_cannot_be_fused_names_its_reason(config, settings, reason):
    asked = apply_overrides(config, settings)
    assert reason in why_not_fused(load_base(config.base), asked.sft, asked)


def test_a_base_of_another_architecture_is_not_fused(config):
    from transformers import LlamaConfig, LlamaForCausalLM

    tiny = LlamaConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=8)
    assert "LlamaForCausalLM" in why_not_fused(LlamaForCausalLM(tiny), config.sft, config)


def test_with_a_reason_trls_trainer_runs_and_the_reason_is_kept(train):
    adapter, log = train("sft", "fused", {"max_steps": 1, "optim": "adafactor"})
    assert "adafactor" in adapter.fallback
    assert any("loss" in u.metrics for u in log)
    adapter, _ = train("sft", "fused", {"max_steps": 1})
    assert adapter.fallback is None
    adapter, _ = train("sft", "trl", {"max_steps": 1, "optim": "adafactor"})
    assert adapter.fallback is None  # nothing else was asked for


def test_the_last_layer_runs_on_asked_positions_only(config, splits):
    model, tokenizer = load_base(config.base), load_tokenizer(config.base)
    rows = tokenize(splits.train[:6], tokenizer, pair)
    layout = trainer.lay_out(rows, trainer.shared_start([row.prompt for row in rows]), 3)
    widths = []
    hook = model.model.layers[-1].mlp.register_forward_hook(lambda *passed: widths.append(passed[1][0].shape[:2]))
    with torch.no_grad():
        found = decoder.hidden_where_asked(model.model, layout)
    hook.remove()
    assert widths == [layout.asked.shape]
    for row, where in zip(rows, layout.looked_up, strict=True):
        for answer, places in zip(row.answers, where, strict=True):
            with torch.no_grad():
                whole = model.model(torch.tensor([[*row.prompt, *answer[:-1]]])).last_hidden_state[0]
            expected = whole[len(row.prompt) - 1 :].numpy()
            assert np.abs(found[places].numpy() - expected).max() <= 1e-4 * np.abs(expected).max()
