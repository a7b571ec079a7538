import pytest
from pydantic import ValidationError

from pii_finetune.config import BaseConfig, CalibrationConfig, DataConfig, DpoSettings, GateConfig
from pii_finetune.profiles import PROFILES, embedded

DATA = {"validation_fraction": 0.1, "test_fraction": 0.2, "seed": 0}
BASE = {"name": "a/b", "device": "cpu", "dtype": "float32", "quantization": "none"}


def test_a_config_cannot_be_changed_after_it_is_made():
    config = embedded()
    with pytest.raises(ValidationError, match="frozen"):
        config.sft.learning_rate = 1.0


def test_a_name_that_is_no_setting_is_refused():
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        DataConfig(**DATA, colour="red")


def test_nf4_on_a_cpu_is_refused_with_the_remedy():
    with pytest.raises(ValidationError, match="base.quantization=none"):
        BaseConfig(**BASE | {"quantization": "nf4"})


@pytest.mark.parametrize("fraction", [0, 1, -0.1, float("nan"), float("inf")])
def test_a_side_of_the_split_is_a_share_between_0_and_1(fraction: float):
    with pytest.raises(ValidationError, match="test_fraction"):
        DataConfig(**DATA | {"test_fraction": fraction})


def test_the_split_leaves_rows_to_train_on():
    with pytest.raises(ValidationError, match="at least 0.2 of the rows for training"):
        DataConfig(**DATA | {"validation_fraction": 0.41, "test_fraction": 0.4})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("per_device_train_batch_size", 0),
        ("num_train_epochs", -1),
        ("max_steps", 0),
        ("eval_steps", 0),
        ("lr_scheduler_type", "zigzag"),
    ],
)
def test_a_training_that_cannot_be_is_refused(name: str, value: object):
    with pytest.raises(ValidationError, match=name):
        DpoSettings(**embedded().dpo.model_dump() | {name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("minimum_recall", 1.1),
        ("minimum_format_validity", -0.1),
        ("paired_test", "t"),
        ("alpha", 0),
        ("alpha", 0.5),
        ("noninferiority_margin", -0.01),
        ("max_language_regression", float("nan")),
        ("min_language_rows", 0),
        ("baselines", "ignore"),
    ],
)
def test_a_gate_that_cannot_be_is_refused(name: str, value: object):
    with pytest.raises(ValidationError, match=name):
        GateConfig(**{"minimum_f1": 0.8, name: value})


@pytest.mark.parametrize("precision", [0.5, 1, float("nan")])
def test_a_review_precision_is_better_than_a_coin_and_less_than_certain(precision: float):
    with pytest.raises(ValidationError, match="review_precision"):
        CalibrationConfig(review_precision=precision)


def test_every_loss_has_its_weight():
    dpo = embedded().dpo.model_dump() | {"loss_type": ["sigmoid", "sft"]}
    assert DpoSettings(**dpo | {"loss_weights": [1.0, 0.5]}).loss_weights == [1.0, 0.5]
    with pytest.raises(ValidationError, match="loss_weights has 1 values for 2 loss_type"):
        DpoSettings(**dpo | {"loss_weights": [1.0]})


@pytest.mark.parametrize("recipe", PROFILES.values(), ids=PROFILES)
def test_a_config_survives_json(recipe):
    assert type(recipe()).model_validate_json(recipe().model_dump_json()) == recipe()
