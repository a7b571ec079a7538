import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pii_finetune.errors import BadConfigError
from pii_finetune.overrides import apply_overrides, flatten, parse_assignments, read_config_file
from pii_finetune.profiles import PROFILES, embedded

PATHS = sorted(flatten(embedded()))


@pytest.mark.parametrize("recipe", PROFILES.values(), ids=PROFILES)
def test_a_config_is_rebuilt_from_its_flat_form(recipe):
    assert apply_overrides(embedded(), flatten(recipe())) == recipe()


@given(st.sampled_from(PATHS))
def test_every_setting_can_be_written_as_an_assignment(path: str):
    value = flatten(embedded())[path]
    assert parse_assignments([f"{path}={json.dumps(value)}"]) == {path: value}


@given(st.floats(min_value=1e-8, max_value=1, exclude_min=True))
def test_an_override_changes_its_setting_and_no_other(rate: float):
    changed = flatten(apply_overrides(embedded(), parse_assignments([f"sft.learning_rate={rate!r}"])))
    assert changed == flatten(embedded()) | {"sft.learning_rate": rate}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("3", 3),
        ("true", True),
        ("null", None),
        ('["a"]', ["a"]),
        ("plain text", "plain text"),
        ("", ""),
    ],
)
def test_values_are_json_or_else_plain_text(text: str, value: object):
    assert parse_assignments([f"a.b = {text}"]) == {"a.b": value}


def test_text_after_the_first_equals_sign_is_the_value():
    assert parse_assignments(["base.name=a=b"]) == {"base.name": "a=b"}


def test_the_last_of_two_assignments_wins():
    assert parse_assignments(["seed=1", "seed=2"]) == {"seed": 2}


@pytest.mark.parametrize("assignment", ["sft.learning_rate", "=3", " = 3", ""])
def test_an_assignment_without_path_or_value_is_refused_with_an_example(assignment: str):
    with pytest.raises(BadConfigError, match="is not PATH=VALUE; write e.g. --set sft.learning_rate=1e-3"):
        parse_assignments([assignment])


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("sft.learning_rat", "sft.learning_rate"),
        ("dpo.learning_rate_", "dpo.learning_rate"),
        ("sft.lora_alpha", "lora.lora_alpha"),
        ("data.sed", "data.seed"),
        ("sed", "seed"),
        ("gate.min_f1", "gate.minimum_f1"),
        ("evaluation.batchsize", "evaluation.batch_size"),
    ],
)
def test_an_unknown_setting_is_told_with_the_nearest_name(wrong: str, meant: str):
    with pytest.raises(BadConfigError, match=f"there is no setting '{wrong}'; the nearest is '{meant}'"):
        apply_overrides(embedded(), {wrong: 1})


def test_a_section_is_no_setting():
    with pytest.raises(BadConfigError, match="there is no setting 'sft'"):
        apply_overrides(embedded(), {"sft": {}})


def test_all_mistakes_are_told_at_once():
    with pytest.raises(BadConfigError) as caught:
        apply_overrides(embedded(), {"sft.learning_rate": "high", "lora.r": 0, "gate.minimum_f1": 2})
    lines = str(caught.value).splitlines()
    assert [line.split(" = ")[0] for line in lines] == ["lora.r", "sft.learning_rate", "gate.minimum_f1"]
    assert "'high'" in lines[1]


def test_a_rule_over_two_settings_names_its_section():
    with pytest.raises(BadConfigError, match=r"^data: validation_fraction \+ test_fraction must leave"):
        apply_overrides(embedded(), {"data.validation_fraction": 0.5, "data.test_fraction": 0.5})


def test_a_toml_file_gives_settings_by_dotted_path(tmp_path: Path):
    file = tmp_path / "run.toml"
    file.write_text('seed = 7\nlora.r = 8\n[sft]\nlearning_rate = 1e-3\n[base]\nname = "a/b"\n', encoding="utf-8")
    assert read_config_file(file) == {"seed": 7, "lora.r": 8, "sft.learning_rate": 1e-3, "base.name": "a/b"}


@pytest.mark.parametrize("content", [b"[sft", b"a = = 1", b"\xff\xfe"])
def test_a_file_that_is_not_toml_is_told_by_name(tmp_path: Path, content: bytes):
    file = tmp_path / "run.toml"
    file.write_bytes(content)
    with pytest.raises(BadConfigError, match=r"run.toml: is not TOML"):
        read_config_file(file)


def test_a_config_file_that_cannot_be_read_is_told_by_name(tmp_path: Path):
    with pytest.raises(BadConfigError, match=r"none.toml: cannot be read \(No such file or directory\)"):
        read_config_file(tmp_path / "none.toml")
    with pytest.raises(BadConfigError, match="Is a directory"):
        read_config_file(tmp_path)
