import pytest
import torch
from safetensors.torch import load_file

from pii_finetune.dpo import train_dpo
from pii_finetune.errors import TrainingPrunedError
from pii_finetune.metrics import f1_of
from pii_finetune.overrides import apply_overrides
from pii_finetune.profiles import embedded
from pii_finetune.scoring import Scorer
from pii_finetune.sft import train_sft
from pii_finetune.splits import split
from pii_finetune.validation import validate
from pii_finetune.validation_f1 import check_parts
from pii_finetune.workbook import read_workbook

pytestmark = pytest.mark.slow


def ignore(_):
    """No one looks at the updates."""


@pytest.fixture(scope="module")
def config(small_workbook):
    settings = {"data.workbook": str(small_workbook), "sft.max_steps": 10, "dpo.max_steps": 6}
    return apply_overrides(embedded(), settings)


@pytest.fixture(scope="module")
def splits(config):
    return split(validate(read_workbook(config.data), None, config.data).records, config.data)


def weights(adapter):
    return load_file(adapter.path / "adapter_model.safetensors")


def f1_by_scorer(config, splits, adapter):
    rows = splits.validation
    scores = Scorer(config.base, {"it": adapter.path}, 16).score([(r.label, r.language) for r in rows], "it")
    return f1_of([r.sensitive for r in rows], scores.margin > 0)


@pytest.mark.parametrize("trainer", ["fused", "trl"])
def test_a_training_that_is_measured_is_the_same_training_and_the_last_measure_is_the_adapters(
    trainer, config, splits, tmp_path
):
    config = apply_overrides(config, {"trainer": trainer})
    checks = {"sft": [], "dpo": []}

    def judge(stage):
        return lambda check: checks[stage].append(check) or True

    sft = train_sft(splits, config, tmp_path / "sft", ignore, judge("sft"))
    dpo = train_dpo(splits, sft, config, tmp_path / "dpo", ignore, judge("dpo"))
    unmeasured_sft = train_sft(splits, config, tmp_path / "sft-unmeasured", ignore)
    unmeasured_dpo = train_dpo(splits, unmeasured_sft, config, tmp_path / "dpo-unmeasured", ignore)

    for measured, unmeasured in ((sft, unmeasured_sft), (dpo, unmeasured_dpo)):
        expected = weights(unmeasured)
        assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(measured).items())
        assert measured.curves == unmeasured.curves
    assert [(each.part, each.step) for each in checks["sft"]] == [(1, 3), (2, 5), (3, 8), (4, 10)]
    assert [(each.part, each.step) for each in checks["dpo"]] == [(1, 2), (2, 3), (3, 5), (4, 6)]
    assert checks["sft"][-1].f1 == pytest.approx(f1_by_scorer(config, splits, sft), abs=1e-9)
    assert checks["dpo"][-1].f1 == pytest.approx(f1_by_scorer(config, splits, dpo), abs=1e-9)


def test_the_judge_can_end_a_training(config, splits, tmp_path):
    with pytest.raises(TrainingPrunedError, match=r"after step 5 of 10: F1 0\.\d+ on the validation split"):
        train_sft(splits, config, tmp_path, ignore, lambda check: check.part < 2)
    assert not (tmp_path / "adapter").exists()


@pytest.mark.parametrize(("num_steps", "steps"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 3, 4])])
def test_a_short_training_is_measured_at_most_after_every_step_and_at_its_end(num_steps, steps):
    parts = check_parts(num_steps)
    assert list(parts) == steps
    assert parts[num_steps] == 4
