from pathlib import Path

import pytest
import torch

from pii_finetune.errors import BadConfigError, BadWorkbookError, MissingDeviceError
from pii_finetune.profiles import embedded
from pii_finetune.setup import build_config, changed_rules, configure_run, describe_settings


def test_without_wishes_the_profile_is_the_config():
    assert build_config("embedded", None, {}) == embedded()


def test_the_workbook_and_settings_of_the_user_replace_the_profiles():
    config = build_config("embedded", "/data/own.xlsx", {"lora.r": 4})
    assert (config.data.workbook, config.lora.r) == ("/data/own.xlsx", 4)


def test_the_settings_that_others_may_read_hold_neither_a_signature_nor_a_password():
    config = build_config("embedded", "https://ann:secret@host/labels.xlsx?signature=secret", {})
    settings = describe_settings(config)
    assert settings["data.workbook"] == "https://host/labels.xlsx"
    assert settings["data.unseen"] == embedded().data.unseen
    assert "secret" not in str(settings)


def test_a_workbook_among_the_settings_wins_over_the_data_option():
    assert build_config("embedded", "a.xlsx", {"data.workbook": "b.xlsx"}).data.workbook == "b.xlsx"


def test_an_unknown_profile_is_told_with_all_names_and_the_nearest():
    with pytest.raises(BadConfigError, match=r"'embeded': choose one of embedded, seed, fast; did you mean 'embedded'"):
        build_config("embeded", None, {})


def test_a_profile_like_no_other_gets_no_wild_guess():
    with pytest.raises(BadConfigError, match=r"choose one of embedded, seed, fast$"):
        build_config("xyz", None, {})


def test_the_profile_is_not_a_setting_among_others():
    with pytest.raises(BadConfigError, match="choose it with --profile"):
        build_config("embedded", None, {"profile": "seed"})


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_profile_that_needs_cuda_says_so_at_once_where_there_is_none():
    with pytest.raises(MissingDeviceError, match=r"CUDA cannot be used: .*--profile embedded"):
        configure_run("seed", None, {})


def test_the_embedded_profile_runs_anywhere():
    assert configure_run("embedded", None, {}) == embedded()


def test_a_workbook_that_is_not_there_is_told_before_any_work(tmp_path):
    with pytest.raises(BadWorkbookError, match=r"there is no such file; check the path"):
        configure_run("embedded", str(tmp_path / "none.xlsx"), {})


@pytest.mark.parametrize("path", ["seed", "data.seed"])
def test_a_seed_no_generator_takes_is_refused(path: str):
    with pytest.raises(BadConfigError, match=path):
        build_config("embedded", None, {path: 2**32})


def test_a_sheet_named_by_a_year_is_a_name():
    assert build_config("embedded", None, {"data.sheet": 2024}).data.sheet == "2024"


def test_a_bad_member_of_a_list_is_told_by_the_setting_that_exists():
    with pytest.raises(BadConfigError, match=r"^dpo\.loss_type = "):
        build_config("embedded", None, {"dpo.loss_type": ["sigmoyd"]})


def test_an_output_folder_nobody_can_write_to_is_told_at_once():
    with pytest.raises(BadConfigError, match="output_dir = '/proc/x': nothing can be written there"):
        configure_run("embedded", None, {"output_dir": "/proc/x"})


def test_an_empty_folder_given_as_workbook_is_told_as_one(tmp_path: Path):
    with pytest.raises(BadWorkbookError, match=r"holds no table \(it is empty\)"):
        configure_run("embedded", str(tmp_path), {})


def test_an_optimizer_that_does_not_exist_is_told_before_any_work_with_the_nearest():
    with pytest.raises(BadConfigError, match=r"dpo.optim = 'adamw_troch' is none .*did you mean 'adamw_torch'\?"):
        configure_run("embedded", None, {"dpo.optim": "adamw_troch"})


def test_layers_that_the_base_has_not_are_told_before_any_work_with_those_it_has():
    with pytest.raises(BadConfigError, match=r"'query' names no layer of the base .*k_proj.*q_proj"):
        configure_run("embedded", None, {"lora.target_modules": "query"})
    for names in ("all-linear", ["q_proj", "v_proj"], r".*layers\.5\..*_proj"):
        configure_run("embedded", None, {"lora.target_modules": names})


def test_a_hub_dataset_is_not_looked_for_among_the_files():
    assert configure_run("embedded", "hf://owner/name", {}).data.workbook == "hf://owner/name"


def test_a_frozen_test_set_that_is_not_there_is_told_before_any_work():
    with pytest.raises(BadWorkbookError, match=r"data.frozen_test = '/nope.xlsx': there is no such file"):
        configure_run("embedded", None, {"data.frozen_test": "/nope.xlsx"})


def test_rules_of_the_gate_that_are_not_the_profiles_are_named():
    assert changed_rules(embedded()) == {}
    loosened = build_config("embedded", None, {"gate.minimum_recall": 0.1, "sft.max_steps": 5})
    assert changed_rules(loosened) == {"gate.minimum_recall": "0.1 (profile embedded: 0.8)"}
