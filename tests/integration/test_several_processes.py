import logging
import os
import signal
import subprocess
import time

import psutil
import pytest
import torch
from safetensors.torch import load_file

from pii_finetune.dpo import train_dpo
from pii_finetune.errors import BadConfigError, LostProcessError, TrainingDivergedError, TrainingStoppedError
from pii_finetune.overrides import apply_overrides
from pii_finetune.sft import train_sft

pytestmark = pytest.mark.slow

TOGETHER = 2


@pytest.fixture
def train(config, splits, sft, tmp_path):
    def run(stage, trainer, num_processes, on_update=lambda _: None, **more):
        settings = {"max_steps": 8, "save_steps": 2, "eval_steps": 4, "logging_steps": 1}
        recipe = apply_overrides(
            config,
            {
                "trainer": trainer,
                "runtime.num_processes": num_processes,
                **{f"{stage}.{key}": value for key, value in settings.items()},
                **more,
            },
        )
        folder = tmp_path / f"{stage}-{trainer}-{num_processes}"
        if stage == "sft":
            return train_sft(splits, recipe, folder, on_update)
        return train_dpo(splits, sft[0], recipe, folder, on_update)

    return run


def below(process):
    return {child.pid for child in psutil.Process(process).children(recursive=True)}


@pytest.mark.parametrize(
    ("trainer", "stage"),
    [("trl", "dpo"), ("fused", "sft"), ("fused", "dpo"), pytest.param("trl", "sft", marks=pytest.mark.faults)],
)
def test_two_processes_learn_what_one_does(train, stage, trainer):
    alone, together = [], []
    one = train(stage, trainer, 0, alone.append)
    two = train(stage, trainer, TOGETHER, together.append)
    assert (two.path.parent / "job.json").is_file()  # they were processes of their own
    assert [update.step for update in together] == [update.step for update in alone]
    for here, there in zip(alone, together, strict=True):
        for name in ("loss", "eval_loss", "grad_norm", "learning_rate", "rewards/margins"):
            assert there.metrics.get(name, 0) == pytest.approx(here.metrics.get(name, 0), rel=2e-4, abs=2e-6), name
    first, second = (load_file(adapter.path / "adapter_model.safetensors") for adapter in (one, two))
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=0, atol=2e-4)
    assert two.num_steps == one.num_steps
    assert not below(os.getpid())


def test_one_process_of_its_own_learns_what_the_run_itself_does(train):
    here, there = train("sft", "fused", 0), train("sft", "fused", 1)
    assert (there.path.parent / "job.json").is_file()
    first, second = (load_file(adapter.path / "adapter_model.safetensors") for adapter in (here, there))
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=0, atol=2e-4)


def killing(step, number, killed):
    """Return an on_update that kills one of the training processes, once, when that step is told of."""

    def on_update(update):
        if update.step == step and not killed:
            workers = [
                child
                for child in psutil.Process().children(recursive=True)
                if "pii_finetune.distributed.worker" in child.cmdline()
            ]
            victim = next(w for w in workers if w.environ().get("RANK") == str(number))
            killed.append(victim.pid)
            victim.send_signal(signal.SIGKILL)

    return on_update


@pytest.mark.parametrize("number", [pytest.param(0, marks=pytest.mark.faults), 1])
def test_a_process_that_dies_is_started_again_and_the_training_ends_as_if_it_had_not(train, tmp_path, caplog, number):
    whole = train("sft", "fused", TOGETHER)
    (tmp_path / f"sft-fused-{TOGETHER}").rename(tmp_path / "whole")
    killed = []
    with caplog.at_level(logging.WARNING, logger="pii_finetune"):
        again = train("sft", "fused", TOGETHER, killing(5, number, killed))
    assert killed
    assert "a process of the training died" in caplog.text
    assert "1 of at most 3 times" in caplog.text
    first = load_file(tmp_path / "whole/adapter/adapter_model.safetensors")
    second = load_file(again.path / "adapter_model.safetensors")
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert again.curves == whole.curves
    assert not below(os.getpid())


@pytest.mark.faults
def test_processes_that_die_more_often_than_allowed_end_the_training_and_the_next_one_goes_on(train, tmp_path):
    with pytest.raises(LostProcessError, match="died 1 times.*process 1 with exit code -9.*a rerun goes on"):
        train("sft", "fused", TOGETHER, killing(5, 1, []), **{"runtime.max_restarts": 0})
    updates = []
    train("sft", "fused", TOGETHER, updates.append)
    assert min(update.step for update in updates) == 5
    assert not below(os.getpid())


@pytest.mark.faults
def test_a_sigterm_stops_all_processes_at_one_step_with_a_checkpoint(train, tmp_path):
    def on_update(update):
        if update.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(TrainingStoppedError, match=r"stopped by SIGTERM after step \d of 8"):
        train("sft", "fused", TOGETHER, on_update)
    stopped = max(int(path.name.rpartition("-")[2]) for path in tmp_path.glob("*/checkpoints/checkpoint-*"))
    assert 3 <= stopped < 8
    updates = []
    train("sft", "fused", TOGETHER, updates.append)
    assert min(update.step for update in updates) == stopped + 1


@pytest.mark.faults
def test_a_training_that_diverges_in_processes_is_told_as_in_one(train):
    hopeless = {"sft.learning_rate": 1e30, "sft.warmup_steps": 0, "sft.max_grad_norm": 1e30}
    with pytest.raises(TrainingDivergedError, match=r"at step \d+, learning rate"):
        train("sft", "fused", TOGETHER, **hopeless)
    assert not below(os.getpid())


def test_a_batch_that_cannot_be_shared_evenly_is_refused(train):
    with pytest.raises(
        BadConfigError, match=r"a step of sft is 16 rows.*cannot be shared evenly|neither can be shared"
    ):
        train("sft", "fused", 3)


RUN = """
import pickle, sys
from pathlib import Path
from pii_finetune.sft import train_sft
splits, config = pickle.load(open(sys.argv[1], "rb"))
train_sft(splits, config, Path(sys.argv[2]), lambda update: print(update.step, flush=True))
"""


@pytest.mark.faults
def test_no_process_outlives_the_run_that_was_killed(config, splits, tmp_path):
    import pickle

    recipe = apply_overrides(
        config, {"trainer": "fused", "runtime.num_processes": TOGETHER, "sft.max_steps": 500, "sft.logging_steps": 1}
    )
    (tmp_path / "given").write_bytes(pickle.dumps((splits, recipe)))
    run = subprocess.Popen(
        [os.sys.executable, "-c", RUN, str(tmp_path / "given"), str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert any(line.strip() == "3" for line in run.stdout)
        children = below(run.pid)
        assert len(children) >= 1 + TOGETHER
        run.kill()
        run.wait()
        deadline = time.monotonic() + 30
        while any(map(psutil.pid_exists, children)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not [pid for pid in children if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]
    finally:
        run.kill()
