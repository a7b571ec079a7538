import errno
import json
import logging
import os
import signal
import time

import pytest
import torch
from safetensors.torch import load_file

from pii_finetune import checkpoints, stopping
from pii_finetune.checkpoints import newest_whole
from pii_finetune.dpo import train_dpo
from pii_finetune.errors import TrainingStoppedError
from pii_finetune.overrides import apply_overrides
from pii_finetune.sft import train_sft

pytestmark = pytest.mark.slow


class Killed(BaseException):
    """What no code of ours catches."""


@pytest.fixture
def train(config, splits, sft, tmp_path):
    def run(stage, trainer, name, on_update=lambda _: None):
        settings = {"max_steps": 8, "save_steps": 2, "logging_steps": 1, "save_total_limit": 2}
        recipe = apply_overrides(config, {"trainer": trainer, **{f"{stage}.{k}": v for k, v in settings.items()}})
        if stage == "sft":
            return train_sft(splits, recipe, tmp_path / name, on_update)
        return train_dpo(splits, sft[0], recipe, tmp_path / name, on_update)

    return run


def killing_at(step):
    def on_update(update):
        if update.step == step:
            raise Killed

    return on_update


def assert_bitwise_equal(one, other):
    first, second = (load_file(adapter.path / "adapter_model.safetensors") for adapter in (one, other))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("stage", ["sft", "dpo"])
@pytest.mark.parametrize("trainer", ["trl", "fused"])
def test_a_training_cut_off_ends_bitwise_as_one_that_was_not(train, tmp_path, stage, trainer):
    whole = train(stage, trainer, "whole")
    with pytest.raises(Killed):
        train(stage, trainer, "cut", killing_at(5))
    updates = []
    resumed = train(stage, trainer, "cut", updates.append)
    assert min(update.step for update in updates) == 5  # checkpoint-4 was the last
    assert_bitwise_equal(whole, resumed)
    assert [step for step, _ in resumed.curves["loss"]] == list(range(1, 9))
    assert resumed.curves == whole.curves


@pytest.mark.parametrize("trainer", ["trl", "fused"])
def test_a_training_cut_off_after_its_last_step_takes_none_more(train, tmp_path, trainer):
    def killing_at_the_end(update):
        if "train_loss" in update.metrics:
            raise Killed

    whole = train("dpo", trainer, "whole")
    with pytest.raises(Killed):
        train("dpo", trainer, "cut", killing_at_the_end)
    updates = []
    resumed = train("dpo", trainer, "cut", updates.append)
    assert {update.step for update in updates} == {8}
    assert_bitwise_equal(whole, resumed)
    assert resumed.curves == whole.curves


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed", "no manifest"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(train, tmp_path, caplog, damage):
    whole = train("sft", "fused", "whole")
    with pytest.raises(Killed):
        train("sft", "fused", "cut", killing_at(5))
    newest = tmp_path / "cut/checkpoints/checkpoint-4"
    victim = newest / ("checkpoint.json" if damage == "no manifest" else "optimizer.pt")
    if damage in ("missing", "no manifest"):
        victim.unlink()
    else:
        content = victim.read_bytes()
        victim.write_bytes(content[:-100] if damage == "truncated" else content[:-1] + bytes([content[-1] ^ 1]))
    updates = []
    with caplog.at_level(logging.INFO, logger="pii_finetune"):
        resumed = train("sft", "fused", "cut", updates.append)
    assert min(update.step for update in updates) == 3
    assert "checkpoint-4 is skipped" in caplog.text
    assert victim.name in caplog.text
    assert "going on from checkpoint-2" in caplog.text
    assert_bitwise_equal(whole, resumed)


def test_a_checkpoint_cut_off_while_it_is_written_is_never_looked_at(train, tmp_path, monkeypatch):
    real = checkpoints._seal

    def cut_off(folder):
        if folder.name == "checkpoint-4":
            raise Killed
        real(folder)

    monkeypatch.setattr(checkpoints, "_seal", cut_off)
    with pytest.raises(Killed):
        train("sft", "fused", "cut")
    monkeypatch.setattr(checkpoints, "_seal", real)
    newest, skipped = newest_whole(tmp_path / "cut/checkpoints")
    assert newest is not None
    assert (newest.name, skipped) == ("checkpoint-2", [])
    assert_bitwise_equal(train("sft", "fused", "cut"), train("sft", "fused", "whole"))


def test_a_full_disk_costs_a_checkpoint_and_not_the_training(train, tmp_path, monkeypatch, caplog):
    real = checkpoints._seal

    def full(folder):
        if folder.name != "checkpoint-2":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(folder)

    monkeypatch.setattr(checkpoints, "_seal", full)
    adapter = train("sft", "fused", "full")
    assert adapter.num_steps == 8
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    told = [line for line in warnings if "no checkpoint could be written" in line]
    assert len(told) == 3
    assert str(tmp_path / "full/checkpoints") in told[0]
    assert "go back to checkpoint-2" in told[0]
    assert [path.name for path in (tmp_path / "full/checkpoints").glob("*-*")] == ["checkpoint-2"]


def test_only_the_newest_are_kept_without_a_pickle_of_the_arguments(train, tmp_path):
    train("dpo", "trl", "whole")
    folder = tmp_path / "whole/checkpoints"
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-6", "checkpoint-8"]
    listed = json.loads((folder / "checkpoint-8/checkpoint.json").read_text())
    assert {"optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"} <= set(listed)
    assert "ref/adapter_model.safetensors" in listed
    assert not list(folder.rglob("training_args.bin"))


def signalling_at(step):
    def on_update(update):
        if update.step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return on_update


def test_sigterm_ends_a_training_at_the_next_step_with_a_checkpoint_that_a_rerun_goes_on_from(train, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    whole = train("sft", "fused", "whole")
    with pytest.raises(TrainingStoppedError, match="after step 4 of 8"):
        train("sft", "fused", "stopped", signalling_at(3))
    assert signal.getsignal(signal.SIGTERM) is before
    newest, _ = newest_whole(tmp_path / "stopped/checkpoints")
    assert newest is not None
    assert newest.name == "checkpoint-4"
    assert_bitwise_equal(whole, train("sft", "fused", "stopped"))


def test_sigterm_ends_a_training_whose_step_takes_too_long_without_a_checkpoint(train, tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "GRACE_SECONDS", 0.5)

    def hang(update):
        if update.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(300)

    with pytest.raises(TrainingStoppedError, match="without a checkpoint"):
        train("sft", "fused", "stopped", hang)
    newest, _ = newest_whole(tmp_path / "stopped/checkpoints")
    assert newest is not None
    assert newest.name == "checkpoint-2"
