import pytest

from pii_finetune.overrides import flatten
from pii_finetune.profiles import embedded
from pii_finetune.records import Record
from pii_finetune.splits import Splits
from pii_finetune.stage_keys import dpo_key, evaluation_key, run_key, sft_key

RECORDS = tuple(Record(f"label {n}", "English", n % 2 == 0, None, n) for n in range(9))
SPLITS = Splits(RECORDS[:5], RECORDS[5:7], RECORDS[7:])
WHERE = ("runtime.num_nodes", "runtime.rendezvous", "runtime.max_restarts")
# Settings of which no stage's result depends, each for a reason that stage_keys.py gives.
NEEDLESS = ("profile", "output_dir", "tracking.", "data.", "gate.", *WHERE)
SAVING = ("save_strategy", "save_steps", "save_total_limit")


def keys(config, splits=SPLITS, production="3"):
    return {
        "sft": sft_key(config, splits),
        "dpo": dpo_key(config, splits),
        "evaluate": evaluation_key(config, splits, (), production),
    }


def changed(config, path):
    section, _, name = path.rpartition(".")
    value = flatten(config)[path]
    other = not value if isinstance(value, bool) else value + 1 if isinstance(value, int | float) else f"{value}x"
    if not section:
        return config.model_copy(update={name: other})
    return config.model_copy(update={section: getattr(config, section).model_copy(update={name: other})})


@pytest.mark.parametrize("path", [path for path in flatten(embedded()) if path != "base.name"])
def test_every_setting_is_in_the_keys_of_the_stages_it_matters_to(path):
    before, after = keys(embedded()), keys(changed(embedded(), path))
    differ = {stage for stage in before if before[stage] != after[stage]}
    section, _, name = path.partition(".")
    if path.startswith(NEEDLESS) or name in SAVING:
        assert differ == set()
    elif section == "dpo":
        assert differ == {"dpo", "evaluate"}
    elif section in ("evaluation", "calibration", "variant"):
        assert differ == {"evaluate"}
    else:
        assert differ == {"sft", "dpo", "evaluate"}
    assert run_key(embedded(), "", {}) != run_key(changed(embedded(), path), "", {})


def test_other_rows_and_another_model_in_production_are_other_keys():
    before = keys(embedded())
    assert keys(embedded(), production="4")["evaluate"] != before["evaluate"]
    assert keys(embedded(), production="4")["dpo"] == before["dpo"]
    fewer = keys(embedded(), Splits(RECORDS[:4], RECORDS[5:7], RECORDS[7:]))
    assert all(fewer[stage] != before[stage] for stage in before)
    assert keys(embedded().model_copy(update={"variant": "fr"}), production=None) == keys(embedded(), production=None)
    other_test = keys(embedded(), Splits(RECORDS[:5], RECORDS[5:7], RECORDS[8:]))
    assert other_test["sft"] == before["sft"]
    assert other_test["evaluate"] != before["evaluate"]


def test_a_trial_of_a_sweep_is_another_run_than_an_ordinary_one_with_the_same_settings():
    keys_of_runs = {run_key(embedded(), "", tags) for tags in ({}, {"trial": "0"}, {"trial": "1"})}
    assert len(keys_of_runs) == 3
