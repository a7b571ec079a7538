import math
from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments
from trl import DPOConfig, SFTConfig

from pii_finetune.errors import TrainingDivergedError
from pii_finetune.profiles import embedded, seed
from pii_finetune.training import TrainingUpdate, UpdateCallback, trainer_arguments

STATE = TrainerState(global_step=10, max_steps=40)


@pytest.fixture
def updates() -> list[TrainingUpdate]:
    return []


@pytest.fixture
def log(updates: list[TrainingUpdate], tmp_path: Path):
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[], learning_rate=0.5)
    callback = UpdateCallback(updates.append)
    return lambda logs: callback.on_log(arguments, STATE, TrainerControl(), logs=logs)


def test_every_figure_of_a_step_is_handed_on(log, updates: list[TrainingUpdate]):
    log({"loss": 0.5, "grad_norm": 1, "learning_rate": 1e-3, "note": "text"})
    assert updates == [TrainingUpdate(10, 40, {"loss": 0.5, "grad_norm": 1.0, "learning_rate": 1e-3})]


def test_an_entry_without_figures_is_no_error(log, updates: list[TrainingUpdate]):
    log(None)
    log({"eval_loss": 0.1})
    assert [dict(update.metrics) for update in updates] == [{}, {"eval_loss": 0.1}]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["loss", "grad_norm"])
def test_a_training_that_diverged_is_stopped_with_step_and_remedy(log, name: str, value: float):
    with pytest.raises(TrainingDivergedError, match=rf"{name} is -?(nan|inf) at step 10, learning rate 0.002.*lower"):
        log({"loss": 0.5, "grad_norm": 1.0, "learning_rate": 2e-3} | {name: value})


def test_the_learning_rate_is_told_even_if_the_entry_has_none(log):
    with pytest.raises(TrainingDivergedError, match="learning rate 0.5;"):
        log({"loss": math.nan})


def test_the_figures_of_a_diverged_step_are_still_handed_on(log, updates: list[TrainingUpdate]):
    with pytest.raises(TrainingDivergedError):
        log({"loss": math.nan})
    assert math.isnan(updates[0].metrics["loss"])


@pytest.mark.parametrize(("kind", "stage"), [(SFTConfig, "sft"), (DPOConfig, "dpo")])
def test_trl_takes_the_arguments_and_keeps_every_setting(kind, stage: str, tmp_path: Path):
    config = embedded()
    section = getattr(config, stage)
    arguments = kind(**trainer_arguments(section, config, tmp_path, fused=False))
    for name, value in section.model_dump().items():
        assert getattr(arguments, name) == value
    assert (arguments.seed, arguments.use_cpu, arguments.bf16) == (config.seed, True, False)
    assert arguments.report_to == []


def test_an_answer_is_never_truncated_and_a_nan_never_hidden(tmp_path: Path):
    arguments = trainer_arguments(embedded().sft, embedded(), tmp_path, fused=False)
    assert arguments["max_length"] is None
    assert arguments["logging_nan_inf_filter"] is False


@pytest.mark.parametrize("name", ["eval_loss", "train_loss"])
def test_a_divergence_after_the_last_logged_step_is_seen_too(log, name: str):
    with pytest.raises(TrainingDivergedError, match=name):
        log({name: math.nan})


@pytest.mark.parametrize("fused", [True, False])
def test_the_fused_step_keeps_activations_whatever_the_recipe_says(fused, tmp_path):
    assert trainer_arguments(seed().sft, seed(), tmp_path, fused)["gradient_checkpointing"] is not fused
