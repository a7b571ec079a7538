import pytest

from pii_finetune.overrides import flatten
from pii_finetune.paths import resolve
from pii_finetune.profiles import PROFILES, embedded, fast, seed


def differences(one, other) -> set[str]:
    return {path for path, value in flatten(one).items() if flatten(other)[path] != value}


def test_seed_is_the_recipe_of_the_contract():
    config = seed()
    assert config.base.name == "Qwen/Qwen2.5-1.5B-Instruct"
    assert (config.base.quantization, config.base.device) == ("nf4", "cuda")
    assert config.lora.model_dump() == {
        "r": 16,
        "lora_alpha": 16,
        "lora_dropout": 0.1,
        "target_modules": ["q_proj", "v_proj"],
    }
    for training in (config.sft, config.dpo):
        assert (training.per_device_train_batch_size, training.per_device_eval_batch_size) == (2, 4)
        assert (training.num_train_epochs, training.learning_rate, training.optim) == (3, 2e-4, "paged_adamw_8bit")
        assert (training.eval_steps, training.save_strategy) == (50, "epoch")


def test_fast_trains_on_the_same_model_and_data_as_seed():
    same = ("data.", "base.name", "base.revision", "lora.", "gate.", "seed")
    differing = [path for path in differences(fast(), seed()) if path.startswith(same)]
    assert differing == ["lora.lora_dropout"]  # rows that share tokens would share its mask


def test_every_profile_trains_with_the_fused_trainer():
    assert {recipe().trainer for recipe in PROFILES.values()} == {"fused"}


def test_embedded_needs_neither_gpu_nor_hub():
    config = embedded()
    assert (config.base.device, config.base.quantization) == ("cpu", "none")
    assert resolve(config.base.name).is_dir()
    assert config.sft.optim == config.dpo.optim == "adamw_torch"


def test_embedded_dpo_is_anchored():
    assert embedded().dpo.loss_type == ["sigmoid", "sft"]


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_is_called_as_it_calls_itself(name: str):
    assert PROFILES[name]().profile == name


def test_all_profiles_are_measured_on_the_same_rows_and_held_to_the_same_minimum():
    assert len({recipe().data for recipe in PROFILES.values()}) == 1
    assert len({recipe().gate.minimum_f1 for recipe in PROFILES.values()}) == 1
